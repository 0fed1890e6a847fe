"""`funnelcast predict` in a pipe: rows from standard input, predictions to standard output."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from harness.calls import call
from harness.cost import COMMAND

pytestmark = pytest.mark.slow
P = ["p_click", "p_buy", "p_buy_given_click"]


def pipe(made: Path, *arguments: object, rows: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [COMMAND, "predict", made / "run/bundle", *arguments]
    return subprocess.run([*map(str, command)], input=rows, capture_output=True, timeout=120, **options)


def as_bytes(rows: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "csv":
        pa.csv.write_csv(rows, sink)
    elif kind == "csv.gz":
        return gzip.compress(as_bytes(rows, "csv"))
    elif kind == "parquet":
        pq.write_table(rows, sink)
    else:
        with (pa.ipc.new_stream if kind == "arrows" else pa.ipc.new_file)(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=7)
    return sink.getvalue()


@pytest.fixture(scope="module")
def expected(made: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    out = tmp_path_factory.mktemp("expected") / "p.parquet"
    assert call("predict", made / "run/bundle", made / "log.parquet", "--out", out).code == 0
    return pq.read_table(out)


@pytest.mark.parametrize("kind", ["arrows", "arrow", "parquet", "csv", "csv.gz"])
def test_every_format_of_rows_has_the_same_bits(made: Path, tmp_path: Path, expected: pa.Table, kind: str) -> None:
    rows = as_bytes(pq.read_table(made / "log.parquet"), kind)
    ran = pipe(made, "-", "--out", "p.parquet", rows=rows, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert pq.read_table(tmp_path / "p.parquet").select(P).equals(expected.select(P))
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.parametrize("kind", ["csv", "arrow"])
def test_a_stream_of_predictions(made: Path, expected: pa.Table, tmp_path: Path, kind: str) -> None:
    """Alone on standard output; what is said of it is on standard error."""
    arguments = () if kind == "csv" else ("--format", kind)
    rows = as_bytes(pq.read_table(made / "log.parquet"), "arrows")
    ran = pipe(made, "-", "--out", "-", *arguments, rows=rows, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert ran.returncode == 0 and b"Wrote 400 rows to -: row, campaign" in ran.stderr
    found = pa.csv.read_csv(io.BytesIO(ran.stdout)) if kind == "csv" else pa.ipc.open_stream(ran.stdout).read_all()
    assert found.select(P).equals(expected.select(P))
    assert list(tmp_path.iterdir()) == []


def test_json_of_a_stream_is_on_standard_error(made: Path) -> None:
    ran = pipe(made, made / "log.csv", "--out", "-", "--json")
    assert json.loads(ran.stderr)["rows"] == 400 and ran.stdout.startswith(b'"row","campaign"')


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (b"", "standard input is empty"),
        (b"user,age\n1,2,3\n", "standard input, line 2: "),
        (b"user\n1\n", "standard input: "),
        (b"PAR1 but not more", "standard input cannot be read: "),
        (b"ARROW1 but not more", "standard input cannot be read: "),
        (b"\xff\xff\xff\xff but not more", "standard input cannot be read: "),
    ],
)
def test_what_is_no_rows(made: Path, tmp_path: Path, rows: bytes, said: str) -> None:
    ran = pipe(made, "-", "--out", tmp_path / "p.csv", rows=rows)
    assert ran.returncode == 2 and ran.stderr.decode().startswith(f"error: {said}"), ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_an_arrow_stream_that_breaks_off(made: Path, tmp_path: Path, share: float) -> None:
    rows = as_bytes(pq.read_table(made / "log.parquet"), "arrows")
    ran = pipe(made, "-", "--out", tmp_path / "p", rows=rows[: int(share * len(rows))])
    assert ran.returncode == 2 and b"standard input cannot be read" in ran.stderr and b"Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def large(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More rows than are written within a moment."""
    path = tmp_path_factory.mktemp("large") / "rows.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(made / "log.parquet")] * 3000), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "arrow"])
def test_a_reader_that_ends_ends_the_command_without_a_word(made: Path, large: Path, kind: str) -> None:
    command = [COMMAND, "predict", made / "run/bundle", large, "--out", "-", "--format", kind]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1


@pytest.mark.parametrize("out", ["p.parquet", "p.csv", "p.arrow", "p"])
def test_a_disk_that_is_full_leaves_nothing(made: Path, large: Path, tmp_path: Path, out: str) -> None:
    """As a limit of a file's size is, for the one process."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    ran = pipe(made, large, "--out", tmp_path / out, preexec_fn=limit)
    assert ran.returncode == 2 and b"Traceback" not in ran.stderr, ran.stderr
    assert len(ran.stderr.splitlines()) == 1 and b"File too large" in ran.stderr, ran.stderr
    assert list(tmp_path.iterdir()) == []


def _wait(found: Callable[[], bool]) -> None:
    for _ in range(6000):
        if found():
            return
        time.sleep(0.01)
    pytest.fail("it did not begin to write")


@pytest.mark.parametrize("out", ["p.parquet", "p"])
def test_killed_while_it_writes(made: Path, large: Path, tmp_path: Path, out: str) -> None:
    arguments = ("predict", made / "run/bundle", large, "--out", tmp_path / out)
    with subprocess.Popen([COMMAND, *map(str, arguments)]) as process:
        _wait(lambda: any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*")))
        process.kill()
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 2 and all(name.startswith(f".{out}.partial-") for name in left)
    assert call(*arguments).code == 0
    assert [path.name for path in tmp_path.iterdir()] == [out]
    files = [tmp_path / out] if out != "p" else sorted((tmp_path / out).glob("*.parquet"))
    assert len(files) == (1 if out != "p" else 2)
    assert sum(pq.read_metadata(file).num_rows for file in files) == 1_200_000
