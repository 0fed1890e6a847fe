"""How long one process takes to score the candidates of a user, from Python values to probabilities.

Of Ali-CCP's 18 fields 9 are the user's and one is of the context; the paper's sizes, 1,283,090 ids, one thread.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from bench.adapting import bundle_of, rows_of
from bench.interleaved import PRECISIONS
from bench.training import VOCABULARIES
from funnelcast.serving.predictor import Predictor
from harness.show import show

FIELDS = [f"field_{i}" for i in range(len(VOCABULARIES))]
OF_CANDIDATE = FIELDS[9:-1]


def main() -> int:
    """Prints milliseconds of a call: median, and 99 of 100 are faster."""
    parser = argparse.ArgumentParser(prog="scripts/bench candidates", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man", "mmoe", "ple", "shared_bottom", "esmm", "aitm"])
    parser.add_argument("--embedding", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--calls", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name in args.models:
        bundle = bundle_of(name, args.embedding)
        for precision in PRECISIONS:
            predictor = Predictor(bundle, (), precision)
            once, each = (_calls(predictor, args, OF_CANDIDATE, shared=way) for way in (True, False))
            last = _calls(predictor, args, FIELDS[: len(OF_CANDIDATE)], shared=True)
            times = [ms for calls in (once, last, each) for ms in np.quantile(calls, (0.5, 0.99))]
            found.append((name, precision, *(f"{ms:.2f}" for ms in times)))
    head = f"{args.candidates} candidates, ms"
    columns = ("user first: median", "99 %", "last: median", "99 %", "first, in each row: median", "99 %")
    show((head, "precision", *columns), found)
    return 0


def _calls(predictor: Predictor, args: argparse.Namespace, varying: list[str], *, shared: bool) -> list[float]:
    """Milliseconds of each; a warm process. `varying`: the candidates' fields; `shared`: the others are given once."""
    rows = rows_of(args.candidates * args.calls, 1, 0).to_pydict()
    took = []
    for call in range(args.calls):
        own = slice(call * args.candidates, (call + 1) * args.candidates)
        candidates = {name: rows[name][own] for name in varying}
        user = {name: rows[name][own.start] for name in FIELDS if name not in varying}
        started = time.perf_counter()
        if shared:
            predictor.predict(candidates, shared=user)
        else:
            predictor.predict(candidates | {name: [value] * args.candidates for name, value in user.items()})
        took.append(1e3 * (time.perf_counter() - started))
    return took[args.calls // 10 :]


if __name__ == "__main__":
    sys.exit(main())
