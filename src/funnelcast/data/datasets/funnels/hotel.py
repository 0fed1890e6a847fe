"""Bookings of two hotels (Antonio, de Almeida, Nunes, Data in Brief 2019, CC BY 4.0).

`stayed` is a booking that was not cancelled, `parking` a stay with a parking space. What is filled in or changed after
the day of booking is left out: country, assigned room, changes, days in the waiting list, requests, rate, deposit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from funnelcast.data.datasets.funnels.public_funnel import PublicFunnel, require_columns

_MONTHS = "January February March April May June July August September October November December"
MONTHS = _MONTHS.split()
_FEATURES = """
hotel agent company market_segment distribution_channel customer_type meal reserved_room_type month weekday
is_repeated_guest lead_time stays_in_weekend_nights stays_in_week_nights adults children babies previous_cancellations
previous_bookings_not_canceled
"""
FEATURES = _FEATURES.split()
MADE = frozenset({"month", "weekday"})
"""Features that are no columns of the file."""
ARRIVAL = ("arrival_date_year", "arrival_date_month", "arrival_date_day_of_month")
PARTY = ["hotel", "time", "lead_time", "agent", "company", "market_segment"]
"""Rows that agree in these are taken as booked together: a quarter of all rows repeats another one."""
_PARTIES = 20150701  # seed of the numbers of parties, which have no order: that of the file tells outcomes


def read(path: Path) -> pd.DataFrame:
    """The rows of hotel_bookings.csv, of a zip with it, or of the Parquet file that was made of it."""
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path).drop(columns="part0", errors="ignore")
    raw = pd.read_csv(path)
    labels = ("reservation_status", "required_car_parking_spaces")
    require_columns(raw, [*(name for name in FEATURES if name not in MADE), *ARRIVAL, *labels])
    return _converted(raw.sample(frac=1, random_state=0, ignore_index=True))  # sorted by outcome within a hotel


def _converted(raw: pd.DataFrame) -> pd.DataFrame:
    year, month, day = (raw[name] for name in ARRIVAL)
    arrival = pd.to_datetime(pd.DataFrame({"year": year, "month": month.map(MONTHS.index) + 1, "day": day}))
    rows = raw.assign(
        time=arrival.dt.strftime("%Y-%m-%d"),
        month=month.str[:3],
        weekday=arrival.dt.day_name().str[:3],
        agent=_ids(raw.agent, "a"),
        company=_ids(raw.company, "c"),
        children=raw.children.fillna(0).astype(np.int64),
        stayed=(raw.reservation_status == "Check-Out").astype(np.int64),
        parking=(raw.required_car_parking_spaces > 0).astype(np.int64),
    )
    rows["seller"] = rows.hotel.str.partition(" ")[0] + "_" + rows.agent
    party = rows.groupby(PARTY, sort=False).ngroup().to_numpy()
    rows["party"] = np.random.default_rng(_PARTIES).permutation(party.max() + 1)[party]
    return rows[["seller", "party", "time", *FEATURES, "stayed", "parking"]]


def _ids(numbers: pd.Series, letter: str) -> pd.Series:
    """Whole numbers as texts such as `a40`; `none` where there is none."""
    return numbers.map(lambda number: "none" if pd.isna(number) else f"{letter}{number:.0f}")


HOTEL = PublicFunnel(
    name="hotel",
    read=read,
    rows=119_390,
    checksum="a9d4bbbf627857e104bd43e9c27bb1ce3836b53df458edf2174cd426eda9451c",
    source=(
        "give hotel_bookings.csv, or the zip with it: 119,390 rows and 32 columns, published by Antonio, de Almeida "
        "and Nunes in Data in Brief 22 (2019), https://doi.org/10.1016/j.dib.2018.11.126, and on Kaggle as "
        "jessemostipak/hotel-booking-demand"
    ),
    group="party",
)
