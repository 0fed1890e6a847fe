"""What can be asked of a generated log."""

from __future__ import annotations

from typing import TypedDict

from pydantic import field_validator

from funnelcast.schema.config import Config

PARTS = ("train", "test")


class Rates(TypedDict):
    """The two rates as arguments of `generate`."""

    click_rate: float
    conversion_rate: float


REALISTIC: Rates = {"click_rate": 0.0388, "conversion_rate": 0.0053}
"""The rates of the real file: `generate(out, rows, **REALISTIC)`."""


class GeneratorConfig(Config):
    """Settings of a generated log; the same settings give the same bytes."""

    rows: int = 300_000
    """Impressions of both parts together, 1,000 or more."""
    seed: int = 0
    """Another seed is another world: other entities, tastes and effects."""
    click_rate: float = 0.04
    """Expected share of impressions that are clicked."""
    conversion_rate: float = 0.20
    """Expected share of clicks that convert."""
    test_share: float = 1 / 3
    """Share of the rows in the test part, which comes after the train part."""
    campaign_std: float = 0.25
    """Standard deviation of the campaigns' (shops', field 207) effects on both logits; 0 makes campaigns alike."""
    broken_rate: float = 0.0
    """Share of the unclicked rows that carry a conversion all the same, as a broken log would."""

    @field_validator("rows")
    @classmethod
    def _check_rows(cls, rows: int) -> int:
        if rows < 1_000:
            raise ValueError(f"{rows} is too few for both parts to be a log; ask for 1000 or more")
        return rows

    @field_validator("seed")
    @classmethod
    def _check_seed(cls, seed: int) -> int:
        if seed < 0:
            raise ValueError(f"{seed} is negative; give 0 or a positive whole number")
        return seed

    @field_validator("click_rate", "conversion_rate", "test_share")
    @classmethod
    def _check_share(cls, share: float) -> float:
        if not 0 < share < 1:
            raise ValueError(f"{share:g} is not between 0 and 1; give a share such as 0.04, not a percentage")
        return share

    @field_validator("campaign_std", "broken_rate")
    @classmethod
    def _check_unit(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(f"{value:g} is not within 0 and 1; 0 switches it off")
        return value

    def rows_of(self, part: str) -> int:
        """Rows of `train` or `test`; each has one at least."""
        test = min(self.rows - 1, max(1, round(self.rows * self.test_share)))
        return test if part == "test" else self.rows - test
