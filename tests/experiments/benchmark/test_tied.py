"""A process that is tied to another."""

import subprocess
import sys

from funnelcast.experiments.benchmark.tied import tied_command


def test_it_runs_the_module_with_its_arguments() -> None:
    command = tied_command("json.tool", "--compact", "--no-ensure-ascii")
    assert (
        subprocess.run(command, input=b'{"a": [1, 2]}', stdout=subprocess.PIPE, check=True).stdout == b'{"a":[1,2]}\n'
    )


def test_it_does_not_begin_when_the_other_has_ended() -> None:
    command = tied_command("json.tool")
    command[3] = "4194304"  # no process has this number
    told = subprocess.run(command, input=b"{}", capture_output=True, check=False)
    assert told.returncode and not told.stdout and b"has ended before it began" in told.stderr


def test_it_is_killed_with_the_other() -> None:
    """Which is killed itself while the one that is tied sleeps."""
    inner = "[*tied_command('timeit', '-n', '1', '-r', '1', 'import time; time.sleep(60)')]"
    asked = f"import subprocess; p = subprocess.Popen({inner}); print(p.pid, flush=True); p.wait()"
    program = f"from funnelcast.experiments.benchmark.tied import tied_command; {asked}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline())
        other.kill()
        assert other.stdout.read() == b""  # ends when nobody holds it any more
