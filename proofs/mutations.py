"""Mutated inputs through the command line: never a traceback, exit 0 or 2, and a refusal names what is at fault."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.calls import Answer, call
from harness.show import show
from proofs.material import Material
from proofs.mutants import Mutant
from proofs.mutants_frames import folders, parquet_logs, parquet_rows, predictions
from proofs.mutants_text import ali_ccp, csv_logs, csv_rows
from proofs.mutants_toml import experiments, schemas

Maker = Callable[[Material, Path, random.Random], Mutant]
MAKERS: tuple[Maker, ...] = (
    ali_ccp, experiments, schemas, csv_logs, csv_rows, parquet_logs, parquet_rows, predictions, folders,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a mutant's call came to."""

    seed: str
    mutant: Mutant
    answer: Answer
    problem: str
    """What is wrong with the answer; empty where nothing is."""


def mutations(small: bool = False) -> bool:
    """1,000 mutants (90 as a small share)."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(Path(folder), 10 if small else 112)
    table = Counter((o.mutant.kind, "fails" if o.problem else str(o.answer.code)) for o in outcomes)
    kinds = dict.fromkeys(o.mutant.kind for o in outcomes)
    show(
        ("kind", "accepted (0)", "refused (2)", "fails"),
        [(k, *(table[k, c] for c in ("0", "2", "fails"))) for k in kinds],
    )
    failed = [o for o in outcomes if o.problem]
    for o in failed:
        show(("failed", o.mutant.what), [("seed", o.seed), ("problem", o.problem), ("said", o.answer.err[-600:])])
    show(("mutants", "failed"), [(len(outcomes), len(failed))])
    return not failed


def run(folder: Path, each: int, seed: int = 0) -> list[Outcome]:
    """`each` mutants of every kind, made in `folder`."""
    (folder / "made").mkdir()
    made = Material.make(folder / "made")
    return [
        one(made, folder / "scratch", maker, f"{seed}/{maker.__name__}/{i}") for maker in MAKERS for i in range(each)
    ]


def one(made: Material, scratch: Path, maker: Maker, seed: str) -> Outcome:
    """The mutant of one seed, made and called in an empty folder."""
    scratch.mkdir()
    try:
        mutant = maker(made, scratch, random.Random(seed))
        before = {path.name for path in scratch.iterdir()}
        answer = call(*mutant.arguments)
        left = {path.name for path in scratch.iterdir()} - before
        return Outcome(seed, mutant, answer, _problem(mutant, answer, left))
    finally:
        shutil.rmtree(scratch)


def _problem(mutant: Mutant, answer: Answer, left: set[str]) -> str:
    if answer.trace:
        return answer.trace
    if answer.warned:
        return f"warned: {answer.warned}"
    if answer.code not in (0, 2):
        return f"exit {answer.code}"
    if answer.code == 0 and mutant.same_as and answer.out != call(*mutant.same_as).out:
        return "says something else than for whole files"
    if answer.code == 2 and not any(name in answer.err for name in mutant.names):
        return f"names none of {mutant.names}"
    if answer.code == 2 and left - {"table.quarantine.csv", "run"}:
        return f"leaves {sorted(left)}"
    return ""
