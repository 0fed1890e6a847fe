"""Public funnels: their rows as they were published, their parts, and what is said of files that are not theirs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from funnelcast.data.datasets.funnels import fbads, hotel, ml100k
from funnelcast.data.datasets.funnels import prepare as preparing
from funnelcast.data.datasets.funnels.oulad import OULAD
from funnelcast.data.datasets.funnels.prepare import FUNNELS, funnel_schema, prepare_funnel
from funnelcast.data.datasets.funnels.public_funnel import newest_fifth, random_fifth
from funnelcast.data.table import Table
from funnelcast.errors import DataError

assert OULAD.shipped is not None
SHIPPED = OULAD.shipped


def test_the_shipped_rows_are_the_published_ones() -> None:
    rows = OULAD.rows_of(SHIPPED)
    assert hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:8] == "17705a17"
    assert rows[["completed", "passed", "distinction"]].sum().tolist() == [22_437, 15_385, 3_024]
    assert (rows.passed <= rows.completed).all() and (rows.distinction <= rows.passed).all()
    assert rows.campaign.nunique() == 22 and rows.student.nunique() == 28_785
    attribution = SHIPPED.with_suffix(".txt").read_text()
    assert "CC BY 4.0" in attribution and "Kuzilek" in attribution


def test_the_random_split_is_that_of_the_shipped_column() -> None:
    part = pd.read_parquet(SHIPPED, columns=["part0"]).part0
    test = random_fifth(np.arange(len(part)), 0)
    assert np.array_equal(test, part == "test") and test.sum() == 6518
    assert not np.array_equal(test, random_fifth(np.arange(len(part)), 1))


def test_groups_stay_together() -> None:
    groups = np.random.default_rng(0).integers(0, 100, 1000)
    test = random_fifth(groups, 3)
    assert len(np.unique(groups[test])) == 20 and not set(groups[test]) & set(groups[~test])


def test_the_newest_are_at_least_a_fifth() -> None:
    times = pd.Series([5, 1, 4, 4, 2, 3, 0, 4, 1, 2])
    assert newest_fifth(times).tolist() == [time >= 4 for time in times]
    assert newest_fifth(pd.Series(range(10))).sum() == 2


@pytest.mark.slow
@pytest.mark.parametrize(("newest", "test_rows", "first"), [(False, 6518, "2013-02-01"), (True, 11_260, "2014-10-01")])
def test_the_table_of_oulad(newest: bool, test_rows: int, first: str, tmp_path: Path) -> None:
    seen: list[str] = []
    manifest = prepare_funnel("oulad", tmp_path / "table", newest=newest, progress=lambda stage, *_: seen.append(stage))
    table = Table.open(tmp_path / "table")
    assert sum(manifest["rows"].values()) == 32_593 and table.rows("test") == test_rows
    assert 0.09 < table.rows("dev") / (32_593 - test_rows) < 0.11
    assert min(table.side("test")["time"].to_pylist()) == first and seen[0] == "convert"
    assert table.schema == funnel_schema("oulad")


def raw_hotel(rows: int = 40) -> pd.DataFrame:
    """Bookings of `lead_time` 0 and up, every other one cancelled, every fourth with a parking space."""
    row = np.arange(rows)
    constant = dict.fromkeys(set(hotel.FEATURES) - {"month", "weekday"}, 1) | {"company": np.nan}
    columns = constant | {
        "hotel": "City Hotel",
        "agent": np.where(row % 3 == 0, np.nan, row % 3 + 9),
        "children": np.where(row == 0, np.nan, 2),
        "arrival_date_year": 2016,
        "arrival_date_month": "February",
        "arrival_date_day_of_month": 29,
        "lead_time": row // 2,
        "reservation_status": np.where(row % 2 == 0, "Check-Out", "Canceled"),
        "required_car_parking_spaces": np.where(row % 4 == 0, 2, 0),
        "country": "PRT",
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize("name", ["hotel_bookings.csv", "hotel_bookings.csv.zip"])
def test_the_rows_of_hotel(name: str, tmp_path: Path) -> None:
    raw_hotel().to_csv(tmp_path / name, index=False)
    rows = hotel.read(tmp_path / name)
    assert rows.lead_time.tolist() != sorted(rows.lead_time), "the order of the file tells outcomes"
    rows = rows.sort_values(["lead_time", "stayed"], ascending=[True, False], ignore_index=True)
    assert set(rows.time) == {"2016-02-29"} and set(rows.month) == {"Feb"} and set(rows.weekday) == {"Mon"}
    assert rows.agent.tolist()[:4] == ["none", "a10", "a11", "none"] and set(rows.company) == {"none"}
    assert rows.seller.tolist()[:2] == ["City_none", "City_a10"]
    assert rows.children.tolist()[:2] == [0, 2]
    assert rows.stayed.tolist() == [1, 0] * 20 and rows.parking.tolist() == [1, 0, 0, 0] * 10
    assert rows.party.nunique() == 40, "no two have one agent and one lead time"
    assert "country" not in rows


def test_rows_that_were_booked_together_are_one_party(tmp_path: Path) -> None:
    pd.concat([raw_hotel(), raw_hotel()]).to_csv(tmp_path / "twice.csv", index=False)
    rows = hotel.read(tmp_path / "twice.csv")
    assert rows.groupby("party").size().tolist() == [2] * 40
    assert (rows.groupby("party").lead_time.nunique() == 1).all()


def raw_ads() -> pd.DataFrame:
    columns: dict[str, Any] = {"ad_id": [1, 2, 3], "xyz_campaign_id": [7, 7, 8], "fb_campaign_id": [70, 71, 80]}
    columns |= {"age": ["30-34"] * 3, "gender": ["M"] * 3, "interest": [15] * 3}
    return pd.DataFrame(
        columns | {"Clicks": [5, 0, 2], "Total_Conversion": [3, 1, 4], "Approved_Conversion": [1, 1, 3]}
    )


def test_the_clicks_of_ads(tmp_path: Path) -> None:
    raw_ads().to_csv(tmp_path / "ads.csv", index=False)
    rows = fbads.read(tmp_path / "ads.csv")
    sums = rows.groupby("ad").agg({"enquiry": ["size", "sum"], "purchase": "sum"})
    assert sums.index.tolist() == ["a1", "a3"] and sums.to_numpy().tolist() == [[5, 3, 1], [2, 2, 2]]
    assert (rows.purchase <= rows.enquiry).all()
    assert set(rows.ad_set) == {"f70", "f80"} and set(rows.campaign) == {"c7", "c8"} and set(rows.interest) == {"i15"}


RATINGS = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "2\t11\t5\t30\n1\t11\t4\t10\n2\t10\t3\t20\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\twriter\t85711\n2\t53\tF\tother\tT8H1N\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "10\tToy Story\t1995\tAnimation Comedy\n11\tunknown\tV\tunknown\n",
}


def write_ratings(folder: Path) -> Path:
    for name, text in RATINGS.items():
        (folder / name).write_text(text)
    return folder


def test_ratings_with_their_users_and_films(tmp_path: Path) -> None:
    rows = ml100k.read(write_ratings(tmp_path))
    assert rows.user.tolist() == ["u2", "u1", "u2"] and rows.item.tolist() == ["i11", "i11", "i10"]
    assert rows.region.tolist() == ["zT", "z8", "zT"] and rows.age.tolist() == [53, 24, 53]
    assert rows.genres.tolist() == ["unknown", "unknown", "Animation|Comedy"]
    assert rows.release_year.isna().tolist() == [True, True, False] and rows.time.tolist() == [30, 10, 20]
    assert rows.liked.tolist() == [1, 1, 0] and rows.loved.tolist() == [1, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hotel", "fbads", "ml100k"])
def test_the_table_of_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones of their form, with the checksum of these."""
    file = {"hotel": tmp_path / "h.csv", "fbads": tmp_path / "f.csv", "ml100k": write_ratings(tmp_path)}[name]
    if name != "ml100k":
        (raw_hotel(400) if name == "hotel" else pd.concat([raw_ads()] * 20)).to_csv(file, index=False)
    found = FUNNELS[name]
    rows = found.read(file)
    if name == "ml100k":
        rows = pd.concat([rows] * 20, ignore_index=True)
    text = rows.to_csv(index=False, lineterminator="\n").encode()
    known = replace(found, read=lambda path: rows, rows=len(rows), checksum=hashlib.sha256(text).hexdigest())
    monkeypatch.setitem(preparing.FUNNELS, name, known)
    manifest = prepare_funnel(name, tmp_path / "table", file=file, seed=1)
    assert sum(manifest["rows"].values()) == len(rows)
    table = Table.open(tmp_path / "table")
    assert table.schema == funnel_schema(name)
    if name == "hotel":
        parties = [set(table.side(part)["party"].to_pylist()) for part in ("train", "dev", "test")]
        assert sum(map(len, parties)) == len(set.union(*parties)) == rows.party.nunique()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "oulat"}, "'oulat' is no public funnel; did you mean 'oulad'?"),
        ({"name": "oulad", "file": "x.csv"}, "oulad is shipped with funnelcast and takes no file; leave x.csv out"),
        ({"name": "oulad", "seed": -1}, "seed -1 is negative"),
        ({"name": "hotel"}, "hotel is not shipped, and no file is given; give hotel_bookings.csv, or the zip with it"),
        ({"name": "fbads", "file": "ads.csv", "newest": True}, "fbads has no times, so no rows are the newest"),
        ({"name": "fbads", "file": "no.csv"}, "no.csv does not exist; give KAG_conversion_data.csv"),
        (
            {"name": "fbads", "file": "ads.csv"},
            "ads.csv has 7 rows, but fbads has 38,165; give KAG_conversion_data.csv",
        ),
        (
            {"name": "fbads", "file": "hotel.csv"},
            "hotel.csv cannot be read as fbads: it lacks the column 'ad_id'; known:",
        ),
        ({"name": "hotel", "file": "ads.csv"}, "ads.csv cannot be read as hotel: it lacks the column 'hotel'; known:"),
        (
            {"name": "hotel", "file": "no.zip"},
            "no.zip cannot be read as hotel: File is not a zip file; give hotel_bookings",
        ),
        ({"name": "hotel", "file": "no.parquet"}, "no.parquet cannot be read as hotel: "),
        ({"name": "hotel", "file": "twice.csv"}, "twice.csv has 80 rows, but hotel has 119,390; "),
        (
            {"name": "ml100k", "file": "."},
            "ml-100k.inter does not exist; give the folder with ml-100k.inter, ml-100k.user",
        ),
    ],
)
def test_what_is_wrong_is_said(
    arguments: dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw_ads().to_csv("ads.csv", index=False)
    raw_hotel().to_csv("hotel.csv", index=False)
    pd.concat([raw_hotel()] * 2).to_csv("twice.csv", index=False)
    for name in ("no.zip", "no.parquet"):
        Path(name).write_text("no such thing")
    with pytest.raises(DataError) as raised:
        prepare_funnel(out="table", **arguments)
    assert str(raised.value).startswith(expected) and not Path("table").exists()


def test_rows_in_another_order_are_not_the_published_ones(tmp_path: Path) -> None:
    rows = pd.read_parquet(SHIPPED)
    rows.iloc[::-1].to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(
        DataError, match=r"a\.parquet \([\d,]+ bytes, sha256 [0-9a-f]{8}\) has the number of rows of oulad"
    ):
        OULAD.rows_of(tmp_path / "a.parquet")
