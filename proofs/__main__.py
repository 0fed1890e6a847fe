"""The long proofs by name: `python -m proofs` lists them, `python -m proofs NAME` runs one."""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path

from proofs.ablation import ablation
from proofs.benchmark_kills import benchmark_kills
from proofs.bias import bias
from proofs.calibration import calibration
from proofs.census import census
from proofs.coverage import coverage
from proofs.few_shot import few_shot
from proofs.kills import kills
from proofs.memory import memory
from proofs.mutations import mutations
from proofs.package import package
from proofs.sequences import sequences
from proofs.serve import serve
from proofs.simulator import simulator
from proofs.step_size import step_size

PROOFS: dict[str, Callable[..., bool]] = {
    proof.__name__.replace("_", "-"): proof
    for proof in (
        kills, mutations, memory, simulator, census, bias, sequences, ablation, step_size, few_shot, coverage,
        benchmark_kills, calibration, package, serve,
    )
}  # fmt: skip


def main() -> int:
    """Exit 0 where the proof holds, 1 where it does not."""
    listed = "\n".join(f"  {name:10} {proof.__doc__}" for name, proof in PROOFS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/proof", epilog=f"proofs:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=PROOFS, metavar="NAME", help="what to prove; all are listed below")
    parser.add_argument("--share", choices=("small", "full"), default="full", help="CI runs a small share of each")
    parser.add_argument("--rows", type=int, help="of the log that is generated; requests of `serve`")
    parser.add_argument("--folder", type=Path, help="where runs are kept, so that a stopped proof goes on")
    parser.add_argument("--full", action="store_true", help="`memory` by the protocol with all fields and weights")
    args = parser.parse_args()
    if args.name is None:
        parser.print_help()
        return 0
    started = time.perf_counter()
    takes = inspect.signature(PROOFS[args.name]).parameters
    given = {name: value for name in ("rows", "folder", "full") if (value := getattr(args, name))}
    if wrong := [name for name in given if name not in takes]:
        parser.error(f"{args.name} takes no --{wrong[0]}")
    holds = PROOFS[args.name](small=args.share == "small", **given)
    verdict = "holds" if holds else "FAILS"
    sys.stdout.write(f"{verdict} in {time.perf_counter() - started:.0f} s: scripts/proof {' '.join(sys.argv[1:])}\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
