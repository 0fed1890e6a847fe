"""Course registrations of the Open University (Kuzilek, Hlosta, Zdrahal, Scientific Data 2017, CC BY 4.0).

A row is a student in one run of a course. `completed` is not to have withdrawn, `passed` a pass or a distinction.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from funnelcast.data.datasets.funnels.public_funnel import PublicFunnel


def read(path: Path) -> pd.DataFrame:
    """The rows of the shipped file, whose column `part0` is the random split of seed 0."""
    return pd.read_parquet(path).drop(columns="part0")


OULAD = PublicFunnel(
    name="oulad",
    read=read,
    rows=32_593,
    checksum="9c6f5b9a1f88e24f0c151f7a4fd2080e9ae7539b82852a36d7bba7f21a251281",
    source="it is shipped with funnelcast: install it again",
    shipped=Path(__file__).with_name("oulad.parquet"),
)
