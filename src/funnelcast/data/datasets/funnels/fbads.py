"""Clicks on the ads of one firm on Facebook, with enquiries and purchases: a row per click.

The file has a line per ad with sums. Of the n clicks of an ad as many have an enquiry, and a purchase, as the sums say;
which ones is not known and does not matter, as they agree in all else. Enquiries beyond the clicks are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from funnelcast.data.datasets.funnels.public_funnel import PublicFunnel, require_columns

IDS = {"ad": ("ad_id", "a"), "ad_set": ("fb_campaign_id", "f"), "campaign": ("xyz_campaign_id", "c")}
"""By column, what it is in the file, and the letter before its ids."""
SUMS = ("Clicks", "Total_Conversion", "Approved_Conversion")


def read(path: Path) -> pd.DataFrame:
    """The clicks of KAG_conversion_data.csv."""
    ads = pd.read_csv(path)
    require_columns(ads, [*(column for column, _ in IDS.values()), "age", "gender", "interest", *SUMS])
    clicks, enquiries, purchases = (ads[name].to_numpy() for name in SUMS)
    enquiries = np.minimum(enquiries, clicks)
    purchases = np.minimum(purchases, enquiries)
    ad = np.repeat(np.arange(len(ads)), clicks)
    number = np.arange(len(ad)) - (np.cumsum(clicks) - clicks)[ad]  # of a click among those of its ad
    of_ads = {name: letter + ads[column].astype(str) for name, (column, letter) in IDS.items()}
    of_ads |= {"age": ads.age, "gender": ads.gender, "interest": "i" + ads.interest.astype(str)}
    rows = pd.DataFrame(of_ads).iloc[ad].reset_index(drop=True)
    rows["enquiry"] = (number < enquiries[ad]).astype(np.int64)
    rows["purchase"] = (number < purchases[ad]).astype(np.int64)
    return rows.sample(frac=1, random_state=0, ignore_index=True)  # else the place of a row tells its labels


FBADS = PublicFunnel(
    name="fbads",
    read=read,
    rows=38_165,
    checksum="bf6eeaaaf41decb8cfe12bd1893f6b3fd6ca8cbba6f8036b1b502d82a8a3b3b8",
    source=(
        "give KAG_conversion_data.csv: 1,143 ads, published on Kaggle as loveall/clicks-conversion-tracking; its "
        "licence is not stated, so it is not shipped"
    ),
    time=None,
)
