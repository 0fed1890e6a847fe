"""funnelcast beside its peers: the same rows, architecture and batch, in turns; writes a page of docs.

Each measurement is a process of its own. One from which others took more than `LOST` of its cores is taken again, and
left out if that happens thrice. Results are kept in a file, so that a run that was stopped goes on; the same command
tries again what was left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.ours import SETTINGS
from bench.peers.work import BATCH, VOCABULARIES, make
from bench.proofs.show import say

PEERS = {
    "torch-rechub": ("mmoe", "ple", "shared_bottom", "esmm", "aitm"),
    "deepctr-torch": ("mmoe", "ple", "shared_bottom", "esmm"),
    "fuxictr": ("mmoe", "ple", "shared_bottom"),
}
OURS = "funnelcast"
HALF = "funnelcast, bfloat16"
LOST = 0.03
TRIES = 3


class Work(NamedTuple):
    """What one process measures."""

    who: str
    model: str
    dim: int
    threads: int
    round: int

    def command(self, data: Path, python: Path) -> list[str]:
        common = ["--data", str(data), "--model", self.model, "--dim", str(self.dim), "--threads", str(self.threads)]
        if self.who == OURS:
            return [sys.executable, "-m", "bench.ours", *common]
        return [str(python), "-m", "bench.peers.measure", "--peer", self.who, *common]


def main() -> int:
    """Exit status 1 where a measurement failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--dims", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=125_000, help="of which 80 %% are trained on, all are scored")
    parser.add_argument("--vocabulary", default="small", choices=VOCABULARIES)
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"), help="with the peers installed")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-peers"), help="of data and results")
    parser.add_argument("--page", type=Path, default=Path("docs/measured/peers.md"))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    data = asked.folder / f"{asked.vocabulary}-{asked.rows}.npz"
    if not data.exists():
        make(data, asked.rows, asked.vocabulary)
    results = Results(asked.folder / f"{data.stem}-{digest()}.jsonl")
    for work in works(asked.models, asked.dims, asked.threads, asked.rounds):
        if work not in results.known or lost_by(results.known[work]) > LOST:
            results.add(work, measured(work, data, asked.python))
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(page(results.known, " ".join(sys.argv[1:]), asked.vocabulary, asked.rows))
    return 0


def works(models: Sequence[str], dims: Sequence[int], threads: Sequence[int], rounds: int) -> Iterator[Work]:
    """In turns, so that a slow hour of the machine meets all."""
    for turn in range(rounds):
        for dim in dims:
            for model in models:
                for count in threads:
                    yield Work(OURS, model, dim, count, turn)
                    yield from (Work(peer, model, dim, count, turn) for peer, own in PEERS.items() if model in own)


class Results:
    """What was measured, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.known = {Work(*key): found for key, found in map(json.loads, lines)}

    def add(self, work: Work, found: dict[str, Any]) -> None:
        self.known[work] = found
        with self.file.open("a") as file:
            file.write(json.dumps([work, found]) + "\n")


def measured(work: Work, data: Path, python: Path) -> dict[str, Any]:
    """Of the first try that had its cores, or the last one; raises CalledProcessError."""
    found: dict[str, Any] = {}
    for _ in range(TRIES):
        quiet = os.environ | {"GOMP_SPINCOUNT": "0"}
        run = subprocess.run(work.command(data, python), env=quiet, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(run.stdout)
        rate, lost = found["train"]["rows_per_s"], lost_by(found)
        say(f"{work}: {rate:,.0f} rows/s in training, others had {lost:.1%} of its cores")
        if lost <= LOST:
            break
    return found


def lost_by(found: dict[str, Any]) -> float:
    """The largest share of its cores that others had in a part of a measurement."""
    own = [found[what]["lost"] for what in ("train", "score")]
    return float(max([*own, lost_by(found["bfloat16"])] if "bfloat16" in found else own))


def digest() -> str:
    """Of what is measured: results of another tree are none of this one's."""
    files = sorted(path for folder in ("src", "bench") for path in Path(folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def page(known: dict[Work, dict[str, Any]], arguments: str, vocabulary: str, rows: int) -> str:
    """All tables, and what they are of."""
    counted = {w: f for w, f in known.items() if lost_by(f) <= LOST}
    versions = {w.who: f["version"] for w, f in known.items() if "version" in f}
    notes = {f"{w.who}, {w.model}": f["note"] for w, f in known.items() if "note" in f}
    parts = [
        "# funnelcast beside its peers\n",
        f"Written by `scripts/bench peers {arguments}`. {machine()}. Batch {BATCH}, {rows:,} rows of 18 fields with "
        f"{sum(VOCABULARIES[vocabulary]):,} ids, of which 80 % are trained on and all are scored; the same "
        "architecture for all, without dropout; each through its own loader, trainer and predict. Rows per second: "
        "median (lowest – highest). The floor is that of the model's matrix products alone, in turns with funnelcast "
        "that take a fraction of a second each: of it, and with bfloat16 over float32, are medians of those turns. "
        f"{len(known) - len(counted)} of {len(known)} measurements do not count, as others had "
        f"more than {LOST:.0%} of their cores; of the others that share was at most "
        f"{max(map(lost_by, counted.values()), default=0):.1%}.\n",
        "Versions: " + ", ".join(f"{who} {version}" for who, version in versions.items()) + ".\n",
    ]
    for threads in sorted({w.threads for w in counted}):
        for what in ("train", "score"):
            parts += [f"## {what.capitalize()}, {threads} {'cores' if threads > 1 else 'core'}\n"]
            parts += ["| model | embedding | floor | who | rows/s | of the floor | funnelcast / it |", "|---" * 7 + "|"]
            parts += [*lines(counted, what, threads), ""]
    parts += ["How they differ from the common architecture:\n", *(f"- {who}: {note}" for who, note in notes.items())]
    return "\n".join(parts) + "\n"


def lines(counted: dict[Work, dict[str, Any]], what: str, threads: int) -> Iterator[str]:
    """Of a table."""
    cells = sorted({(w.model, w.dim) for w in counted if w.threads == threads})
    for model, dim in cells:
        own = {w: f for w, f in counted.items() if (w.model, w.dim, w.threads) == (model, dim, threads)}
        ours = {w.round: f for w, f in own.items() if w.who == OURS}
        every = {who: {w.round: f for w, f in own.items() if w.who == who} for who in (OURS, *PEERS)}
        every[HALF] = {turn: f["bfloat16"] for turn, f in ours.items() if "bfloat16" in f}
        for who, found in every.items():
            turns = sorted(found.keys() & ours.keys())
            if not turns:
                continue
            rates = [f[what]["rows_per_s"] for f in found.values()]
            spread = f"{median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f})"
            shares = {turn: _share(found[turn], ours[turn], what) for turn in turns}
            ratios = [_share(ours[t], ours[t], what) / shares[t] for t in turns]
            if who in PEERS:
                ratios = [ours[t][what]["rows_per_s"] / found[t][what]["rows_per_s"] for t in turns]
            ratio = f"{median(ratios):.2f}" if who != OURS else ""
            floor = f"{median(f['floor'][what] for f in ours.values()):,.0f}"
            yield f"| {model} | {dim} | {floor} | {who} | {spread} | {median(shares.values()):.0%} | {ratio} |"


def _share(found: dict[str, Any], ours: dict[str, Any], what: str) -> float:
    """Of the floor, in turns with it, or of the floor of funnelcast's process."""
    return float(found["share"][what] if "share" in found else found[what]["rows_per_s"] / ours["floor"][what])


def machine() -> str:
    """Its processor and cores."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
