"""Whether the models of a benchmark can be trained on a table, found out before any is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, Fault
from funnelcast.experiments.experiment import Experiment


def check_models(file: Path | str, experiments: Mapping[str, Experiment], table: Table) -> None:
    """Raises ConfigError with the faults of all experiments beside the table."""
    faults = []
    for name, experiment in experiments.items():
        try:
            experiment.check(table.encoder)
        except ConfigError as error:
            faults += [Fault(f"{name}: {fault.where}", fault.problem, fault.fix) for fault in error.faults]
    for part in ("dev", "test"):
        if not table.rows(part):
            faults.append(Fault("data", f"{table.folder} has no {part} rows", "prepare it with a split"))
    if faults:
        raise ConfigError(faults, str(file))


def refusals(experiments: Mapping[str, Experiment], table: Table) -> dict[str, str]:
    """Why some models cannot take the funnel of a table, by name."""
    found = dict[str, str]()
    for name, experiment in experiments.items():
        faults = experiment.model.check(table.encoder.inputs, table.schema.funnel)
        if why := next((fault.problem for fault in faults if fault.where == "model.name"), ""):
            found[name] = why
    return found
