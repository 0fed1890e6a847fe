"""Where compiled kernels are kept on disk, between processes and in images.

That is `NUMBA_CACHE_DIR` where it is set. Otherwise kernels are read from the package's own folder and the user's cache
folder, and written to the first of these that can be written to. Where none can, a process keeps them for itself. They
fit one kind of processor, one version of numba and these sources: all others compile their own.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _Cache, _CacheLocator
from numba.misc.appdirs import AppDirs

PACKAGE: Final = Path(__file__).parent.parent
NAME: Final = "__kernels__"


@cache
def folders() -> tuple[Path, ...]:
    """Folders of kernels, in the order in which they are searched."""
    if config.CACHE_DIR:
        return (Path(config.CACHE_DIR),)
    return PACKAGE / "__pycache__" / NAME, Path(AppDirs("funnelcast", appauthor=False).user_cache_dir) / NAME


@cache
def writable() -> Path | None:
    """The first folder that can be written to."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


@cache
def sources(file: Path) -> str:
    """A digest of all that the kernels of a file are made of; numba takes that file alone."""
    digest = hashlib.sha256()
    for path in sorted(files_of(file)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def files_of(file: Path) -> set[Path]:
    """A file, and those of this package that it imports from, directly or not."""
    found, left = set[Path](), [file]
    while left:
        if (path := left.pop()) not in found:
            found.add(path)
            left += _imported(path)
    return found


@cache
def _imported(file: Path) -> list[Path]:
    """By statements at the top level, as kernels use what there is when they are defined."""
    modules = set[str]()
    for module, names in re.findall(rf"^from ({PACKAGE.name}[\w.]*) import (\([^)]*\)|.*)", file.read_text(), re.M):
        modules |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
    paths = [PACKAGE.parent.joinpath(*module.split(".")) for module in modules]
    return [path for base in paths for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


class KernelCache(_Cache):  # type: ignore[misc]
    """A kernel's compiled code in all folders, as numba asks for it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        target = writable()  # makes it
        self._readable = [_cache_at(folder)(function) for folder in folders() if folder.is_dir()]
        self._writable = _cache_at(target)(function) if target else None

    @property
    def cache_path(self) -> str:
        """The folder that is written to."""
        return str(writable() or "")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature from the first folder that has it; None where none has."""
        for each in self._readable:
            try:
                if (found := each.load_overload(sig, target_context)) is not None:
                    return found
            except Exception:  # of other versions, whose classes there are no longer; or cut short
                with suppress(OSError):
                    each.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature; a full disk is no reason to stop."""
        if self._writable is not None:
            with suppress(OSError):
                self._writable.save_overload(sig, data)

    def enable(self) -> None:
        """Nothing: it is enabled."""

    def disable(self) -> None:
        """Forget all folders."""
        self._readable, self._writable = [], None

    def flush(self) -> None:
        """Forget what is kept on disk."""
        if self._writable is not None:
            self._writable.flush()


@cache
def _cache_at(folder: Path) -> type[FunctionCache]:
    class Locator(_CacheLocator):  # type: ignore[misc]
        def __init__(self, function: Any, file: str) -> None:
            self._line = function.__code__.co_firstlineno
            own = function.__module__.replace("__main__", str(Path(file).resolve()).replace(os.sep, "."))
            self._file, self._path = file, folder / own

        def ensure_cache_path(self) -> None:
            self._path.mkdir(parents=True, exist_ok=True)

        def get_cache_path(self) -> str:
            return str(self._path)

        def get_source_stamp(self) -> str:
            return sources(Path(self._file))

        def get_disambiguator(self) -> str:
            return str(self._line)

        @classmethod
        def from_function(cls, function: Any, file: str) -> Locator | None:
            return cls(function, file) if Path(file).exists() else None

    class Impl(CompileResultCacheImpl):  # type: ignore[misc]
        _locator_classes: Final = [Locator]

    return type("_Cache", (FunctionCache,), {"_impl_class": Impl})
