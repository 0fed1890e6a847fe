"""What must be the same for two figures to be compared: processing, split, sample space and metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from funnelcast.data.table import Table
from funnelcast.errors import ComparisonError

METRICS = "exact AUC, ties half; log-loss in nats; calibration error of 20 bins of equal mass; rows by weight"
VERSION = 1
"""Of what the metrics mean."""


@dataclass(frozen=True)
class Protocol:
    """Figures of one fingerprint are of the same rows, labels, features and metrics."""

    name: str
    text: str
    fingerprint: str
    """12 hex digits."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def protocol_of(table: Table, part: str = "test") -> Protocol:
    """Of figures that are measured on a part of a table."""
    funnel = table.schema.funnel
    spaces = {
        output.name: "all rows" if output.given is None else f"rows with {funnel.names[output.given]}"
        for output in funnel.outputs
    }
    said = {"data": table.protocol["fingerprint"], "part": part, "spaces": spaces, "metrics": METRICS, "v": VERSION}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
    rows = f"{table.rows('train'):,} training, {table.rows('dev'):,} dev and {table.rows('test'):,} test rows"
    where = ", ".join(f"{name} over {space}" for name, space in spaces.items())
    name = table.protocol["name"]
    return Protocol(name, f"{name} ({table.protocol['fingerprint']}): {rows}; {where}; {METRICS}", digest)


def require_one(runs: Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Mapping[str, Any]]]) -> Mapping[str, str]:
    """The protocol that runs, by name, share. Raises ComparisonError where they are of several."""
    pairs = list(runs.items() if isinstance(runs, Mapping) else runs)
    first, own = pairs[0][0], pairs[0][1]["protocol"]
    for name, run in pairs[1:]:
        other = run["protocol"]
        if other["fingerprint"] != own["fingerprint"]:
            raise ComparisonError(
                f"{first} and {name} were measured by different protocols, {own['fingerprint']} and "
                f"{other['fingerprint']}: {own['text']} against {other['text']}; a table has one, so delete either's "
                "folder and run it again on the same table"
            )
    found: Mapping[str, str] = own
    return found
