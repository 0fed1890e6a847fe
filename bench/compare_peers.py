"""funnelcast beside its peers: the same rows, architecture and batch, interleaved; writes a page of docs.

Of a model at an embedding on so many cores, funnelcast, its floor and each peer alternate every quarter of a second,
peers in processes of their own, which are stopped meanwhile; bfloat16 takes turns with the floor alone. Where others
took more than `LOST` of the cores it is measured again, and left out if that happens thrice. Results are kept in a
file, so that a run that was stopped goes on; the same command tries again what was left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.ours import SETTINGS, WORK
from bench.peers.work import BATCH, VOCABULARIES, make
from harness.show import say

PEERS = {
    "torch-rechub": ("mmoe", "ple", "shared_bottom", "esmm", "aitm"),
    "deepctr-torch": ("mmoe", "ple", "shared_bottom", "esmm"),
    "fuxictr": ("mmoe", "ple", "shared_bottom"),
}
OURS = "funnelcast"
BF16 = "funnelcast, bfloat16"
LOST = 0.03
TRIES = 3


class Work(NamedTuple):
    """What takes turns."""

    model: str
    dim: int
    threads: int
    round: int

    def command(self, data: Path, python: Path) -> list[str]:
        common = ["--data", str(data), "--model", self.model, "--dim", str(self.dim), "--threads", str(self.threads)]
        peers = [peer for peer, own in PEERS.items() if self.model in own]
        return [sys.executable, "-m", "bench.ours", *common, "--python", str(python), "--peers", *peers]


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
    parser.add_argument("--page", type=Path, default=Path("docs/results/peers.md"))
    parser.add_argument("--title", default="Other libraries", help="of the page")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    data = args.folder / f"{args.vocabulary}-{args.rows}.npz"
    if not data.exists():
        make(data, args.rows, args.vocabulary)
    results = Results(args.folder / f"{data.stem}-{digest()}.jsonl")
    for work in works(args.models, args.dims, args.threads, args.rounds):
        if work not in results.known or lost_by(results.known[work]) > LOST:
            results.add(work, measured(work, data, args.python))
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(page(results.known, args.title, shlex.join(sys.argv[1:]), args.vocabulary, args.rows))
    return 0


def works(models: Sequence[str], dims: Sequence[int], threads: Sequence[int], rounds: int) -> Iterator[Work]:
    """Round by round, so that a slow hour of the machine meets all."""
    for turn, dim, model, count in product(range(rounds), dims, models, threads):
        yield Work(model, dim, count, turn)


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
        quiet = os.environ | {"GOMP_SPINCOUNT": "0"}  # of peers too, which it starts
        run = subprocess.run(work.command(data, python), env=quiet, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(run.stdout)
        rate, lost = found["train"]["rows_per_s"], lost_by(found)
        say(f"{work}: {rate:,.0f} rows/s in training, others had {lost:.1%} of its cores")
        if lost <= LOST:
            break
    return found


def lost_by(found: dict[str, Any]) -> float:
    """The largest share of its cores that others had in a part of a measurement."""
    own = [found[what]["lost"] for what in WORK]
    return float(max([*own, lost_by(found["bfloat16"])] if "bfloat16" in found else own))


def digest() -> str:
    """Of what is measured: results of another tree are none of this one's."""
    files = sorted(path for folder in ("src", "bench") for path in Path(folder).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def page(known: dict[Work, dict[str, Any]], title: str, arguments: str, vocabulary: str, rows: int) -> str:
    """All tables, and what they are of."""
    counted = {w: f for w, f in known.items() if lost_by(f) <= LOST}
    rates = {(peer, w.model): own for w, f in known.items() for peer, own in f["peers"].items()}
    parts = [
        f"# {title}\n",
        f"Written by `scripts/bench peers {arguments}` on {machine()}. All libraries train the same architecture "
        f"without dropout in batches of {BATCH}, each with its own loader, trainer and predict. The data are {rows:,} "
        f"rows of 18 fields with {sum(VOCABULARIES[vocabulary]):,} ids; 80 % of the rows are trained on and all are "
        "scored.\n",
        "Rates are rows per second, median over rounds (lowest – highest). The floor is that of the model's matrix "
        "products alone. What is compared alternates every quarter of a second: funnelcast, floor and libraries; "
        "bfloat16 alternates with the floor only, and its ratio to float32 is that of their shares of the floor. The "
        "last column is the rate of funnelcast over that of the line: above 1, funnelcast is faster. "
        f"{len(known) - len(counted)} of {len(known)} measurements do not count, as other processes had more than "
        f"{LOST:.0%} of the cores; of the others that share was at most "
        f"{max(map(lost_by, counted.values()), default=0):.1%}.\n",
        "Versions: " + ", ".join(sorted({f"{peer} {own['version']}" for (peer, _), own in rates.items()})) + ".\n",
    ]
    for threads in sorted({w.threads for w in counted}):
        for what in WORK:
            parts += [f"## {what.capitalize()}, {threads} {'cores' if threads > 1 else 'core'}\n"]
            parts += [
                "| model | embedding | floor | library | rows/s | of the floor | funnelcast / line |",
                "|---" * 7 + "|",
            ]
            parts += [*lines(counted, what, threads), ""]
    notes = [f"- {peer}, {model}: {own['note']}" for (peer, model), own in rates.items()]
    return "\n".join([*parts, "## Differences from the common architecture\n", *notes]) + "\n"


def lines(counted: dict[Work, dict[str, Any]], what: str, threads: int) -> Iterator[str]:
    """Of a table."""
    for model, dim in sorted({(w.model, w.dim) for w in counted if w.threads == threads}):
        rounds = [f for w, f in counted.items() if (w.model, w.dim, w.threads) == (model, dim, threads)]
        floor = median(f[what]["floor"] for f in rounds)
        every = {OURS: [(f[what]["rows_per_s"], f[what]["share"], None) for f in rounds]}
        of_bf16 = [(f["bfloat16"][what], f[what]["share"]) for f in rounds if "bfloat16" in f]
        beside = [f[what]["beside"] for f in rounds]
        for peer in beside[0]:
            own = [of[peer] for of in beside]
            every[peer] = [(o["rows_per_s"], o["rows_per_s"] / o["floor"], o["ours"] / o["rows_per_s"]) for o in own]
        if of_bf16:
            every[BF16] = [(bf16["rows_per_s"], bf16["share"], share / bf16["share"]) for bf16, share in of_bf16]
        for who, found in every.items():
            rates, shares, ratios = zip(*found, strict=True)
            rates_text = f"{median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f})"
            ratio = "" if who == OURS else f"{median(ratios):.2f}"
            yield f"| {model} | {dim} | {floor:,.0f} | {who} | {rates_text} | {median(shares):.0%} | {ratio} |"


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
