"""Every error that a user's mistake can raise.

    FunnelcastError
    ├── ConfigError        a schema or experiment file breaks a rule; lists every fault at once
    ├── DataError          raw input cannot be used
    │   ├── QuarantineError    more bad rows than the limit allows
    │   └── TableError         a prepared table is incomplete, damaged or of another kind
    ├── InputError         rows handed to predict lack a column or hold another type
    ├── BundleError        a model bundle is incomplete, damaged or of another version
    ├── DeltaError         a delta is damaged, of another version or of another bundle
    ├── EstimatorError     what FunnelClassifier cannot do; a ValueError too, as scikit-learn expects
    └── ComparisonError    figures of different protocols or rows were to be compared

A message names the value, the rule and the fix. Our own mistakes are ordinary exceptions with tracebacks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class FunnelcastError(Exception):
    """A user's mistake; the command line prints the message and exits with 2."""


@dataclass(frozen=True)
class Fault:
    """One broken rule of a file: where it is, what is wrong, and what to write instead."""

    where: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" + (f"; {self.fix}" if self.fix else "")


class ConfigError(FunnelcastError):
    """A schema or experiment breaks rules. `faults` has all of them, `source` the file they stand in."""

    def __init__(self, faults: Sequence[Fault], source: str = "") -> None:
        self.faults = tuple(faults)
        self.source = source
        head = f"{source} has {len(faults)} fault{'s' if len(faults) != 1 else ''}:" if source else ""
        super().__init__("\n  ".join([head, *map(str, faults)]) if head else "\n".join(map(str, faults)))


class DataError(FunnelcastError):
    """Raw input cannot be used as it is."""


class QuarantineError(DataError):
    """More rows went to quarantine than the limit allows."""


class TableError(DataError):
    """A prepared table is incomplete, damaged, or not what the command needs."""


class InputError(FunnelcastError):
    """Rows handed to a model lack a column or hold another type than the model was trained on."""


class BundleError(FunnelcastError):
    """A model bundle is incomplete, damaged, or of another version."""


class DeltaError(FunnelcastError):
    """A delta is damaged, of another version, or does not fit the bundle or the other deltas."""


class EstimatorError(FunnelcastError, ValueError):
    """Parameters, rows or labels of FunnelClassifier break a rule; a ValueError too, as scikit-learn expects."""


class ComparisonError(FunnelcastError):
    """Figures of different protocols, or predictions of different rows, were to be compared."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest known name, upper and lower case alike, else the list of known names."""
    known = list(known)
    folded = {other.casefold(): other for other in reversed(known)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"known: {', '.join(known)}" if known else ""
