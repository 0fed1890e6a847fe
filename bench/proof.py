"""The long proofs by name: `python -m bench.proof` lists them, `python -m bench.proof NAME` runs one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench.proofs.census import census
from bench.proofs.kills import kills
from bench.proofs.law import law
from bench.proofs.memory import memory
from bench.proofs.mutations import mutations

PROOFS: dict[str, Callable[..., bool]] = {proof.__name__: proof for proof in (kills, mutations, memory, law, census)}


def main() -> int:
    """Exit 0 where the proof holds, 1 where it does not."""
    listed = "\n".join(f"  {name:10} {proof.__doc__}" for name, proof in PROOFS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/proof", epilog=f"proofs:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=PROOFS, metavar="NAME", help="what to prove; all are listed below")
    parser.add_argument("--share", choices=("small", "full"), default="full", help="CI runs a small share of each")
    parser.add_argument("--rows", type=int, help="of `memory`, instead of 2,000,000")
    asked = parser.parse_args()
    if asked.name is None:
        parser.print_help()
        return 0
    started = time.perf_counter()
    sized = {"rows": asked.rows} if asked.rows is not None and asked.name == "memory" else {}
    holds = PROOFS[asked.name](small=asked.share == "small", **sized)
    verdict = "holds" if holds else "FAILS"
    sys.stdout.write(f"{verdict} in {time.perf_counter() - started:.0f} s: scripts/proof {' '.join(sys.argv[1:])}\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
