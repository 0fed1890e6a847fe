"""What the doctor says: findings, and what it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
"""`error`: figures mean nothing until it is mended; `warning`: most likely a fault, look; `note`: no fault, but worth
knowing when figures are read."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
COPY, AFTER, ALONE = "label among the features", "known only after a step", "predicts a label alone"
IDS, ROWS, TIME, DRIFT = "ids never in train", "duplicate rows", "time order", "drift"
CHECKS = (COPY, AFTER, ALONE, IDS, ROWS, TIME, DRIFT)
"""The checks, in the order in which their findings stand."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks so."""

    check: str
    """One of `CHECKS`."""
    subject: str
    """The feature, step, output or part."""
    severity: Severity
    evidence: str
    """What was counted, in words."""
    advice: str


@dataclass(frozen=True)
class Report:
    """What the doctor found in a table, what it looked at, and what it could not check."""

    protocol: dict[str, str]
    findings: tuple[Finding, ...]
    """The gravest first."""
    rows: dict[str, dict[str, int]]
    """By part: how many rows were `looked_at` of `all`, feature by feature; duplicates and ids are counted in all."""
    features: int
    not_checked: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """The gravest first, then by check."""
    return tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), CHECKS.index(each.check))))
