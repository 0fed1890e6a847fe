"""Where compiled kernels are kept: written to the first folder that can be, read from all, of these sources alone."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from funnelcast.compiled import compiled, on_compile
from funnelcast.runtime import kernel_cache

Kernel = Callable[[int], int]


def new_kernel() -> Any:
    @compiled
    def double(number: int) -> int:
        return 2 * number

    return double


def hits(kernel: Any) -> int:
    """Whether its code for an integer comes from a folder."""
    assert kernel(4) == 8
    return sum(kernel.stats.cache_hits.values())


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    kernel_cache.writable.cache_clear()
    yield
    kernel_cache.writable.cache_clear()


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the folders that are searched."""

    def searched(*folders: Path) -> None:
        kernel_cache.writable.cache_clear()
        monkeypatch.setattr(kernel_cache, "folders", lambda: folders)

    return searched


def test_code_is_written_to_the_first_folder_that_can_be_and_read_from_it(
    tmp_path: Path, search: Callable[..., None]
) -> None:
    (tmp_path / "file").touch()
    search(tmp_path / "file" / "below", tmp_path / "own")
    assert kernel_cache.writable() == tmp_path / "own"
    assert [hits(new_kernel()) for _ in range(2)] == [0, 1]


def test_code_is_read_from_a_folder_that_is_not_written_to(tmp_path: Path, search: Callable[..., None]) -> None:
    search(tmp_path / "shipped")
    hits(new_kernel())
    search(tmp_path / "own", tmp_path / "shipped")
    assert hits(new_kernel()) == 1 and not list((tmp_path / "own").iterdir())


def test_without_a_folder_code_is_compiled_each_time(tmp_path: Path, search: Callable[..., None]) -> None:
    (tmp_path / "file").touch()
    search(tmp_path / "file" / "below")
    assert kernel_cache.writable() is None
    assert [hits(new_kernel()) for _ in range(2)] == [0, 0]


def test_code_of_other_sources_is_not_read(
    tmp_path: Path, search: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba knows when a kernel's own file has changed, and not a file of what it calls."""
    search(tmp_path)
    hits(new_kernel())
    monkeypatch.setattr(kernel_cache, "sources", lambda file: "others")
    assert hits(new_kernel()) == 0


def test_the_sources_of_a_kernel_are_those_that_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directly, by another file, in a package or from one; not those that a function imports when it is called."""
    package = tmp_path / "own"
    (package / "deep").mkdir(parents=True)
    monkeypatch.setattr(kernel_cache, "PACKAGE", package)
    texts = {
        "kernel.py": "from own.helper import (\n    one,\n)\nfrom own.deep import below\n"
        "def f():\n    from own.late import x\n",
        "helper.py": "from own.constants import LIMIT\nfrom own.kernel import f\n",
        "constants.py": "LIMIT = 1\n",
        "late.py": "x = 1\n",
        "deep/__init__.py": "",
        "deep/below.py": "y = 2\n",
    }
    for name, text in texts.items():
        (package / name).write_text(text)
    found = kernel_cache.files_of(package / "kernel.py")
    assert found == {package / name for name in texts if name != "late.py"}
    before = kernel_cache.sources(package / "kernel.py")
    (package / "constants.py").write_text("LIMIT = 2\n")
    kernel_cache.sources.cache_clear()
    assert kernel_cache.sources(package / "kernel.py") != before


def test_constants_and_helpers_of_real_kernels_are_among_their_sources() -> None:
    data = kernel_cache.PACKAGE / "data"
    found = kernel_cache.files_of(data / "datasets/aliccp/tokens.py")
    assert {data / "datasets/aliccp/byte_words.py", data / "datasets/aliccp/faults.py", data / "numeric.py"} <= found
    assert kernel_cache.PACKAGE / "training/trainer.py" not in found


def test_a_damaged_file_is_replaced(tmp_path: Path, search: Callable[..., None]) -> None:
    search(tmp_path)
    hits(new_kernel())
    (index,) = tmp_path.rglob("*.nbi")
    index.write_bytes(index.read_bytes()[:-20])
    assert [hits(new_kernel()) for _ in range(2)] == [0, 1]


def test_it_is_said_when_code_is_compiled_and_not_when_it_is_read(tmp_path: Path, search: Callable[..., None]) -> None:
    search(tmp_path)
    said = list[int]()
    for number in range(2):
        with on_compile(lambda number=number: said.append(number)):  # type: ignore[misc]
            new_kernel()(4)
    assert said == [0]


def test_the_variable_of_numba_names_the_folder(tmp_path: Path) -> None:
    code = "from funnelcast.runtime.kernel_cache import writable; print(writable())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "mine")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "mine")
