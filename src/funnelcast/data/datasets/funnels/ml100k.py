"""MovieLens 100k (Harper and Konstan, 2015) in the files of RecBole: a row per rating, whose steps are its stars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from funnelcast.data.datasets.funnels.public_funnel import PublicFunnel, require_columns

FILES = {
    "ml-100k.inter": ("user_id", "item_id", "rating", "timestamp"),
    "ml-100k.user": ("user_id", "age", "gender", "occupation", "zip_code"),
    "ml-100k.item": ("item_id", "release_year", "class"),
}
"""By name, the columns that are read."""


def read(folder: Path) -> pd.DataFrame:
    """The ratings of the three files in a folder."""
    ratings, users, items = (_read(folder / name, columns) for name, columns in FILES.items())
    user, item = (
        side.set_index(key).reindex(ratings[key]).reset_index(drop=True)
        for side, key in ((users, "user_id"), (items, "item_id"))
    )
    stars = ratings.rating.astype(float)
    columns = {
        "user": "u" + ratings.user_id,
        "item": "i" + ratings.item_id,
        "gender": user.gender,
        "occupation": user.occupation,
        "region": "z" + user.zip_code.str[0],
        "genres": item["class"].str.replace(" ", "|"),
        "age": user.age.astype(np.int64),
        "release_year": pd.to_numeric(item.release_year, errors="coerce"),
        "time": ratings.timestamp.astype(float).astype(np.int64),
        "liked": (stars >= 4).astype(np.int64),
        "loved": (stars >= 5).astype(np.int64),
    }
    return pd.DataFrame(columns)


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A file of texts, parted by tabs, whose header says types: `user_id:token`."""
    rows = pd.read_csv(path, sep="\t", dtype=str)
    rows.columns = [str(name).partition(":")[0] for name in rows.columns]
    require_columns(rows, columns)
    return rows


ML100K = PublicFunnel(
    name="ml100k",
    read=read,
    rows=100_000,
    checksum="347d699c080d150782b458c18b4b75ba70b3ca0f59587f0397026920aff81483",
    source=(
        "give the folder with ml-100k.inter, ml-100k.user and ml-100k.item: dataset/ml-100k of the repository "
        "https://github.com/RUCAIBox/RecBole. GroupLens allows no one to pass MovieLens on without leave, so it is not "
        "shipped: https://grouplens.org/datasets/movielens/100k"
    ),
)
