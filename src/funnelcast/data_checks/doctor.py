"""Every check of the doctor over a prepared table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import PARTS, Table
from funnelcast.data_checks.column import Column, read
from funnelcast.data_checks.comparable_rows import Compared, compared, not_compared
from funnelcast.data_checks.duplicates import duplicates, hash_parts
from funnelcast.data_checks.feature_drift import feature_drift
from funnelcast.data_checks.finding import ALONE, DRIFT, IDS, ROWS, TIME, Finding, Report, ordered
from funnelcast.data_checks.known_after_step import known_after
from funnelcast.data_checks.label_copies import label_copy
from funnelcast.data_checks.label_drift import rate_drift
from funnelcast.data_checks.sample import Sample, look_at
from funnelcast.data_checks.single_feature import Alone, measure_alone, too_few, too_good
from funnelcast.data_checks.time_order import Times, find_times, of_the_future, time_order
from funnelcast.data_checks.unknown_ids import new_ids


def doctor(table: Table | Path | str, *, progress: Progress = silent) -> Report:
    """What in a prepared table makes figures too good, or of no use: findings with evidence and advice.

    Labels are compared with features on training rows; test, or dev where there is no test, is compared with train.
    Raises TableError for what is no table, or damaged.
    """
    table = table if isinstance(table, Table) else Table.open(table)
    visit = _Visit(table, {part: look_at(table, part) for part in PARTS if part == "train" or table.rows(part)})
    findings = [*visit.of_parts(progress), *visit.of_features(progress)]
    rows = {part: {"looked_at": len(sample), "all": len(sample.columns)} for part, sample in visit.samples.items()}
    return Report(table.protocol, ordered(findings), rows, len(table.schema.features), tuple(visit.not_checked()))


@dataclass(frozen=True)
class _Visit:
    """A table with the rows of its parts that are looked at."""

    table: Table
    samples: dict[str, Sample]

    @property
    def train(self) -> Sample:
        return self.samples["train"]

    @property
    def others(self) -> dict[str, Sample]:
        """Test before dev: the first is the part that models are judged on."""
        return {part: self.samples[part] for part in ("test", "dev") if part in self.samples}

    @cached_property
    def times(self) -> Times | None:
        return find_times(self.table, list(self.samples))

    @cached_property
    def with_new_ids(self) -> dict[str, Finding]:
        """By feature."""
        others = {part: sample.columns for part, sample in self.others.items()}
        return {finding.subject: finding for finding in new_ids(self.table, self.train.columns, others)}

    @cached_property
    def compared(self) -> dict[str, Compared]:
        """By part."""
        return {part: compared(self.table, part, sample.columns) for part, sample in self.samples.items()}

    def of_parts(self, progress: Progress) -> Iterator[Finding]:
        """What is to be said of test and dev rows beside the training rows."""
        schema = self.table.schema
        for judged in list(self.others.values())[:1]:
            yield from self.with_new_ids.values()
            yield from rate_drift(self.train, judged, schema.funnel)
            if self.times is not None and (found := time_order(self.times, judged.part)) is not None:
                yield found
            sequences = frozenset(name for name, feature in schema.features.items() if feature.kind == "sequence")
            yield from duplicates(hash_parts(self.compared, sequences, progress))

    def of_features(self, progress: Progress) -> Iterator[Finding]:
        """One feature after the other: what it tells of the labels, and whether it drifts."""
        encoder, names = self.table.encoder, list(self.table.schema.features)
        alone: list[Alone] = []
        for done, name in enumerate(names):
            progress("examine features", done, len(names), "features", name)
            column = read(self.train, encoder, name)
            leak = self._leak(column)
            if leak is not None:
                yield leak
            else:
                alone += measure_alone(column, self.table.schema.funnel.outputs)
            for judged in list(self.others.values())[:1]:
                drift = feature_drift(column, read(judged, encoder, name), encoder)
                if drift is not None and name not in self.with_new_ids:
                    yield drift
        progress("examine features", len(names), len(names), "features")
        yield from too_good(alone, self.table.schema)

    def _leak(self, column: Column) -> Finding | None:
        """The plainest thing that is wrong with a feature; others follow from it."""
        encoder = self.table.encoder
        found = label_copy(column, encoder) or known_after(column, encoder)
        return found or (of_the_future(column, encoder, self.times) if self.times is not None else None)

    def not_checked(self) -> Iterator[str]:
        """What could not be looked at, and why."""
        schema = self.table.schema
        yield from (f"{ALONE}: {output}" for output in too_few(self.train, schema.funnel))
        if not self.others:
            yield f"{IDS}, {ROWS}, {TIME}, {DRIFT}: the table has no test and no dev rows"
            return
        yield from not_compared(self.compared)
        if self.times is None:
            yield f"{TIME}: the table keeps no time; where the log has one, add its column to the schema's `keep`"
