"""A stranger's program on the public names, outside the tree: run, and checked by `mypy --strict`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import funnelcast as fc


class Epochs(fc.Callback):
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def on_epoch_end(self, event: fc.EpochEnd) -> bool:
        self.count += 1
        return self.count == 2


def log(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    item = rng.integers(0, 40, rows)
    click = rng.random(rows) < 0.1 + 0.4 * (item % 4 == 0)
    return pd.DataFrame({"item": item, "price": rng.gamma(2.0, 10.0, rows), "click": click.astype(np.int8)})


def main(folder: Path) -> None:
    rows = log(2000)
    schema = fc.Schema.from_dict({"funnel": "click", "features": {"item": "categorical", "price": "numeric"}})
    fc.prepare(schema, folder / "table", train=rows)
    epochs = Epochs()
    experiment = fc.Experiment.from_dict({"model": {"name": "omoe"}})
    fc.train(experiment, folder / "table", folder / "run", callbacks=[epochs], baselines=False)
    model: fc.Predictor = fc.load(folder / "run" / "bundle")
    predicted: pd.DataFrame = model.predict(rows[["item", "price"]])
    if epochs.count != 2 or not predicted["p_click"].between(0, 1).all():
        raise SystemExit(f"{epochs.count} epochs, p_click {predicted['p_click'].describe()}")
    sys.stdout.write(f"{fc.__file__}: mean p_click {predicted['p_click'].mean():.3f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
