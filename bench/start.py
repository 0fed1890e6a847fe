"""How long a cold process takes: to print its help, and from nothing to a prediction, beside `import torch` alone."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from bench.adapting import bundle_of, rows_of
from harness.cost import COMMAND
from harness.show import show

PREDICT = """
import json, sys, funnelcast
with open(sys.argv[2]) as rows:
    print(len(funnelcast.load(sys.argv[1]).predict(json.load(rows))["p_click"]))
"""


def main() -> int:
    """Prints seconds: medians of interleaved processes, the first turn left out, as it fills the caches."""
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="man", help="with the paper's sizes and Ali-CCP's 1,283,090 ids")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        replace(bundle_of(args.model, 5), starting=None).save(folder / "bundle")
        rows, bundle = rows_of(100, 1, 0), str(folder / "bundle")
        pq.write_table(rows, folder / "rows.parquet")
        (folder / "rows.json").write_text(json.dumps(rows.to_pydict()))
        predict = ["predict", bundle, str(folder / "rows.parquet"), "--out", str(folder / "out.parquet"), "--replace"]
        works = {
            "import torch": [sys.executable, "-c", "import torch"],
            "funnelcast --help": [COMMAND, "--help"],
            "funnelcast.load and predict, 100 rows": [sys.executable, "-c", PREDICT, bundle, str(folder / "rows.json")],
            "funnelcast predict, 100 rows": [COMMAND, *predict],
        }
        turns = [{what: _seconds(command) for what, command in works.items()} for _ in range(args.rounds + 1)][1:]
    took = {what: median(turn[what] for turn in turns) for what in works}
    shown = [(what, f"{s:.2f}", f"{s - took['import torch']:+.2f}") for what, s in took.items()]
    show(("a process of its own", "s", "above import torch"), shown)
    return 0


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
