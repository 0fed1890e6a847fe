"""A process that is tied to another."""

import subprocess
import sys
import time

from funnelcast.benchmarks.child_process import child_command


def test_it_runs_the_module_with_its_arguments() -> None:
    command = child_command("json.tool", "--compact", "--no-ensure-ascii")
    assert (
        subprocess.run(command, input=b'{"a": [1, 2]}', stdout=subprocess.PIPE, check=True).stdout == b'{"a":[1,2]}\n'
    )


def test_it_does_not_begin_when_the_other_has_ended() -> None:
    command = child_command("json.tool")
    command[3] = "4194304"  # no process has this number
    done = subprocess.run(command, input=b"{}", capture_output=True, check=False)
    assert done.returncode and not done.stdout and b"has ended before it began" in done.stderr


def test_it_is_killed_with_the_other() -> None:
    """Which is killed itself while the one that is tied sleeps."""
    sleeping = "import time; print('in', flush=True); time.sleep(60)"
    command = f"child_command('timeit', '-n', '1', '-r', '1', {sleeping!r})"
    program = f"import subprocess; from {child_command.__module__} import child_command; subprocess.run({command})"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        other.kill()
        started = time.monotonic()
        assert other.stdout.read() == b""  # ends when nobody holds it any more
    assert time.monotonic() - started < 30
