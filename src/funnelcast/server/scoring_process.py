"""A scoring process: `python -m funnelcast.server.scoring_process FD`, started by the front.

It reads messages from a socket and answers each in its turn. The first one says what to load; the process ends when the
front has gone.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from typing import Any

from funnelcast.errors import FunnelcastError
from funnelcast.server.messages import Channel, Message
from funnelcast.server.settings import Scoring

LOW: int = 19
"""Priority of loading beside a process that serves, and of all that a shadow does."""


def main() -> None:
    """Serve the socket of the file descriptor that is given."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the front's, which lets requests end
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    first = channel.receive()
    if first is None:
        return
    if first.head["scoring"]["is_shadow"]:
        os.nice(LOW)
    made: list[Any] = []
    loading = threading.Thread(target=_load, args=(first.head, made))
    loading.start()
    loading.join()
    if isinstance(made[0], BaseException):
        error = made[0]
        channel.send(Message({"status": 400 if isinstance(error, FunnelcastError) else 500, "error": str(error)}))
        if not isinstance(error, FunnelcastError):
            raise error
        return
    _serve(channel, made[0])


def _load(said: dict[str, Any], made: list[Any]) -> None:
    """In a thread of its own, as a thread that has taken a low priority keeps it."""
    try:
        if said["low"] and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)
        from funnelcast.server.served_model import ServedModel
        from funnelcast.server.shadow_model import ShadowModel

        scoring = Scoring.from_dict(said["scoring"])
        made.append(ShadowModel(scoring) if scoring.is_shadow else ServedModel(scoring))
    except BaseException as error:
        made.append(error)


def _serve(channel: Channel, model: Any) -> None:
    from funnelcast.runtime.threads import begin_thread

    begin_thread()
    channel.send(Message({"status": 200, **model.description()}))
    try:
        while (message := channel.receive()) is not None:
            channel.send(_answer(model, message))
            model.after(message)
    finally:
        model.close()


def _answer(model: Any, message: Message) -> Message:
    """A fault of ours costs one request; the log has where it is."""
    try:
        answer: Message = model.answer(message)
        return answer
    except Exception:
        sys.stderr.write(traceback.format_exc())
        return Message({"status": 500, "error": "the server failed at this request; its log says where"})


if __name__ == "__main__":
    main()
