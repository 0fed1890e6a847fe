"""A log of campaigns that differ, with a known process: what few rows of a new campaign can tell is known exactly.

Eight id fields of 10 to 50 values, uniform and independent. For step k = click, and conversion given a click, the rows
x of campaign c have

    logit p_k(x) = b_k + f_k(x) + o_kc + Σ_j t_kcj g_j(x)

f_k is of the form of the simulator: additive effects of the fields and products of pairs. The directions g_j are sums
of centred effects of three fields each, of mean 0 and variance 1, common to both steps and to all campaigns. What is a
campaign's own is normal with mean 0: its offset o_kc, and its tastes t_kcj, whose sum over j has the variance that
`Differences.taste` says; the same of the two steps have a correlation. b_k makes the rates come out.

In the control campaigns are alike, o = t = 0: there is nothing to adapt to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.evaluation.logistic import sigmoid
from funnelcast.schema.dataset import Schema

SIZES = (10, 12, 16, 20, 24, 30, 40, 50)
"""Values of each field."""
PAIRS = ((0, 1), (2, 3), (1, 4))
"""Fields that interact."""
ADDITIVE_SHARE = 0.7
"""Of the variance of f."""
LIKING = ((0, 2, 4), (1, 3, 5))
"""Fields that each direction of taste is a sum over."""
LOGIT_SCALE = 0.8
"""Standard deviation of f."""
RATES = (0.04, 0.05)
"""Of click, and of conversion given click."""
STEPS, PILOT, LEAST = 2, 100_000, 50
"""LEAST: rows of the smallest campaign in training."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Differences:
    """How campaigns differ, in logits."""

    offset: float = 0.7
    """Standard deviation over campaigns."""
    taste: float = 0.5
    """Root of the mean over campaigns of the variance over rows."""
    correlation: float = 0.5
    """Of either between the two steps."""


ALIKE = Differences(offset=0.0, taste=0.0)
"""The control."""


@dataclass(frozen=True)
class Sample:
    """Rows drawn from the process."""

    columns: Columns
    p: Floats  # (N, 2): click, conversion given click

    def take(self, rows: Ints) -> Sample:
        """Copies of `rows` (n,)."""
        return Sample(self.columns.take(rows), self.p[rows])


class CampaignSimulator:
    """The process of one seed."""

    def __init__(self, seed: int = 0, differences: Differences | None = None) -> None:
        rng = np.random.default_rng([seed, 5])
        self.seed, self.differences = seed, differences or Differences()
        self._effects = [_effects(rng) for _ in range(STEPS)]
        self._likings = [[_centred(rng, SIZES[f]) for f in fields] for fields in LIKING]
        self.intercepts = np.zeros(STEPS)
        self._calibrate(rng)

    @property
    def covariance(self) -> Floats:
        """(6, 6) of what is a campaign's own: offset and tastes of the click, then of the conversion."""
        own, tastes = self.differences, len(LIKING)
        by_step = np.diag([own.offset**2, *[own.taste**2 / tastes] * tastes])
        return np.asarray(np.kron([[1, own.correlation], [own.correlation, 1]], by_step), np.float64)

    def draw_campaigns(self, number: int, *, held_out: bool = False) -> Floats:
        """(number, 2, 3): of each step, offset and tastes. The first ones are the same whatever the number."""
        rng = np.random.default_rng([self.seed, 6, held_out])
        return self._own(rng, number)

    def base(self, ids: NDArray[np.int32]) -> Floats:
        """(N, 2) logits without what is a campaign's own."""
        return self.intercepts + LOGIT_SCALE * np.stack([_logit(effects, ids - 1) for effects in self._effects], 1)

    def design(self, ids: NDArray[np.int32]) -> Floats:
        """(N, 3): 1 and the directions g, by which offset and tastes are multiplied."""
        directions = [
            sum(liking[ids[:, f] - 1] for f, liking in zip(fields, likings, strict=True)) / np.sqrt(len(fields))
            for fields, likings in zip(LIKING, self._likings, strict=True)
        ]
        return np.stack([np.ones(len(ids)), *directions], 1)

    def sample(self, own: Floats, rng: np.random.Generator) -> Sample:
        """A row for each campaign's `own` (N, 2, 3)."""
        ids = _draw_ids(rng, len(own))
        p = sigmoid(self.base(ids) + np.einsum("nd,nkd->nk", self.design(ids), own))
        click, conversion = (rng.random(p.shape) < p).T
        labels = np.stack([click, click & conversion], 1).astype(np.uint8)
        return Sample(Columns(ids, np.empty((len(ids), 0), np.float32), labels=labels), p)

    def write_table(
        self,
        folder: Path,
        train: int = 300_000,
        dev: int = 40_000,
        test: int = 60_000,
        campaigns: int = 300,
        *,
        feature: bool = False,
    ) -> Table:
        """A prepared table of training campaigns, whose shares are log-normal and the same in all parts. Beside the
        rows stand the campaign and the true probabilities. `feature`: campaigns are also read, as `campaign_id`."""
        own, rng = self.draw_campaigns(campaigns), np.random.default_rng([self.seed, 7])
        shares = rng.lognormal(0, 1, campaigns)
        with new_folder(folder) as partial, TableWriter(partial) as writer:
            for name, rows in {"train": train, "dev": dev, "test": test}.items():
                least = min(LEAST, rows // campaigns) if name == "train" else 0
                counts = least + rng.multinomial(rows - least * campaigns, shares / shares.sum())
                campaign = rng.permutation(np.repeat(np.arange(campaigns), counts))
                drawn = self.sample(own[campaign], rng)
                columns = _with_campaign(drawn.columns, campaign) if feature else drawn.columns
                writer.part(name).append(columns, _beside(campaign, drawn.p))
            writer.finish(encoder(campaigns if feature else 0), {})
        return Table.open(folder)

    def _own(self, rng: np.random.Generator, number: int) -> Floats:
        """As `covariance` says."""
        own, tastes = self.differences, len(LIKING)
        scale = np.array([own.offset, *[own.taste / tastes**0.5] * tastes])
        mixing = np.array([[1, 0], [own.correlation, np.sqrt(1 - own.correlation**2)]])
        normal = rng.standard_normal((number, STEPS, 1 + tastes))
        return np.asarray(np.einsum("kl,nld->nkd", mixing, normal) * scale)

    def _calibrate(self, rng: np.random.Generator) -> None:
        """The constants that make the rates over rows and campaigns those of RATES."""
        ids, own = _draw_ids(rng, PILOT), self._own(rng, PILOT)
        logits = self.base(ids) + np.einsum("nd,nkd->nk", self.design(ids), own)
        weights = np.ones(PILOT)
        for k, rate in enumerate(RATES):
            self.intercepts[k] = _bisect(logits[:, k], weights, rate)
            weights = weights * sigmoid(logits[:, k] + self.intercepts[k])


_Effects = tuple[list[Floats], list[tuple[Floats, Floats]]]
"""Of each field's values, and the factors of each pair's."""


def encoder(campaigns: int = 0) -> Encoder:
    """What reads the log. `campaigns`: how many are read as ids, if any; others are unknown."""
    fields = {f"f{i}": Vocabulary(pa.array(range(size))) for i, size in enumerate(SIZES)}
    known = {"campaign_id": Vocabulary(pa.array(range(campaigns)))} if campaigns else {}
    features: dict[str, object] = dict.fromkeys(fields, "categorical")
    features |= {name: {"kind": "categorical", "column": "campaign"} for name in known}
    funnel = "click; conversion after click"
    schema = Schema.from_dict({"name": "campaigns", "funnel": funnel, "features": features, "keep": ["campaign"]})
    return Encoder(schema, fields | known, {})


def _effects(rng: np.random.Generator) -> _Effects:
    additive = [_centred(rng, size) for size in SIZES]
    return additive, [(_centred(rng, SIZES[f]), _centred(rng, SIZES[g])) for f, g in PAIRS]


def _centred(rng: np.random.Generator, size: int) -> Floats:
    """Of mean 0 and standard deviation 1."""
    values = rng.normal(size=size)
    return np.asarray((values - values.mean()) / values.std())


def _logit(effects: _Effects, x: NDArray[np.int32]) -> Floats:
    """(N,) of variance 1."""
    additive, pairs = effects
    plain = sum(effect[x[:, f]] for f, effect in enumerate(additive)) / np.sqrt(len(SIZES))
    crossed = sum(u[x[:, f]] * v[x[:, g]] for (f, g), (u, v) in zip(PAIRS, pairs, strict=True)) / np.sqrt(len(PAIRS))
    return np.asarray(np.sqrt(ADDITIVE_SHARE) * plain + np.sqrt(1 - ADDITIVE_SHARE) * crossed)


def _draw_ids(rng: np.random.Generator, rows: int) -> NDArray[np.int32]:
    return rng.integers(1, np.array(SIZES) + 1, (rows, len(SIZES)), np.int32)


def _bisect(logits: Floats, weights: Floats, rate: float) -> float:
    low, high = -15.0, 15.0
    for _ in range(50):
        middle = (low + high) / 2
        too_low = np.average(sigmoid(logits + middle), weights=weights) < rate
        low, high = (middle, high) if too_low else (low, middle)
    return low


def _with_campaign(columns: Columns, campaign: Ints) -> Columns:
    ids = np.concatenate([columns.ids, campaign[:, None] + 1], 1, dtype=np.int32)
    return Columns(ids, columns.numeric, labels=columns.labels)


def _beside(campaign: Ints, p: Floats) -> pa.Table:
    return pa.table({"campaign": campaign, "true_p_click": p[:, 0], "true_p_conversion_given_click": p[:, 1]})
