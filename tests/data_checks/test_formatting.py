"""Shares and values as findings show them."""

from __future__ import annotations

import pytest

from funnelcast.data_checks.formatting import output_name, percent, percent_range, raw_value
from tests.tiny import fitted_encoder


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"), (1, "100 %"), (0.5, "50.0 %"), (0.9996, "99.96 %"), (0.0004, "0.04 %"), (1e-6, "under 0.01 %"),
        (1 - 1e-6, "over 99.99 %"), (0.1234, "12.3 %"),
    ],
)  # fmt: skip
def test_shares(share: float, said: str) -> None:
    assert percent(share) == said


def test_intervals() -> None:
    assert percent_range(0.1, 0.25) == "10.0 – 25.0 %"


@pytest.mark.parametrize(
    ("feature", "raw", "said"),
    [
        ("user", 3, "u2"), ("item", 1, "0"), ("last", 2, "1"), ("user", 0, ""), ("price", 1.0, "13"), ("price", 0, ""),
        ("age", 0, ""), ("age", 1, "below 30"), ("age", 2, "30 to 45"), ("age", 4, "60 or more"),
    ],
)  # fmt: skip
def test_values_as_the_log_has_them(feature: str, raw: float, said: str) -> None:
    assert raw_value(fitted_encoder(), feature, raw) == said


def test_outputs() -> None:
    funnel = fitted_encoder().schema.funnel
    assert [output_name(output, funnel) for output in funnel.outputs] == [
        "click",
        "conversion",
        "conversion given click",
    ]
