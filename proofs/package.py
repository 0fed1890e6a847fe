"""Wheel and sdist built, installed and used where nothing of the tree is."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "proofs/package_program.py"
SOURCE = ROOT / "src"


def package(*, small: bool) -> bool:
    """Wheel and sdist have all files, and work in an empty environment; small: beside the libraries that are here."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = built(folder, isolated=not small)
        missing = [*missing_files(wheel), *(f"sdist: {file}" for file in missing_files(sdist))]
        _say("\n".join(["files missing:", *missing]) if missing else f"{wheel.name} and {sdist.name} have all files")
        return not missing and all(_runs(command, folder) for command in _uses(wheel, folder, small=small))


def built(folder: Path, *, isolated: bool) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist. `isolated`: by a setuptools that is fetched for it."""
    how = [] if isolated else ["--no-isolation"]
    command: list[str | Path] = [sys.executable, "-m", "build", "--outdir", folder / "dist", *how, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


def missing_files(archive: Path) -> list[str]:
    """The package's files, by their path below src, that a wheel or sdist does not have."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            there = set(wheel.namelist())
    else:
        with tarfile.open(archive) as sdist:
            there = {name.partition("/src/")[2] for name in sdist.getnames()}
    return sorted(_package_files() - there)


def _package_files() -> set[str]:
    files = (path for path in (SOURCE / "funnelcast").rglob("*") if path.is_file())
    return {str(path.relative_to(SOURCE)) for path in files if "__pycache__" not in path.parts}


def _uses(wheel: Path, folder: Path, *, small: bool) -> list[Sequence[object]]:
    """Commands that install the wheel and use it; each has to succeed."""
    program = ["-P", PROGRAM, folder]
    if small:
        return [
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "installed", wheel],
            [sys.executable, *program],
        ]
    python = folder / "empty/bin/python"
    return [
        [sys.executable, "-m", "venv", folder / "empty"],
        [python, "-m", "pip", "install", "--quiet", wheel],
        [python, "-m", "pip", "check"],
        [python, *program],
        [folder / "empty/bin/funnelcast", "demo", "--out", folder / "demo"],
        [python, "-m", "pip", "install", "--quiet", "mypy", "pandas-stubs"],
        [python, "-m", "mypy", "--strict", PROGRAM],
    ]


def _runs(command: Sequence[object], folder: Path) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(folder / "installed")}
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    done = subprocess.run([str(part) for part in command], cwd=outside, env=environment, capture_output=True, text=True)
    said = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    _say(f"{' '.join(map(str, command))}\n  {said.strip()}".replace(f"{folder}/", ""))
    return done.returncode == 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
