"""A world of shoppers with a known process: the true probability of every click and conversion.

Entities. Categories hold items, shops, brands and intentions, all with heavy (Zipf) tails. An item has one category,
one shop, perhaps a brand, and up to four intentions. A user has eight profile fields, which are hidden for some.

Tastes. Users and categories have three latent vectors each: one that both steps share, one for the click, one for the
conversion. A user's vectors come mostly from the profile fields 121, 122, 124 and 125; the rest is the user's own.

Familiarity. A user knows a category with a probability that rises with the shared taste, and of a known category a part
of its shops, brands and intentions. What is known stands in the history (109_14, 110_14, 127_14, 150_14); 508, 509, 702
and 853 stand in a row when its category, shop, brand, an intention is known; their value is ln(1 + times seen).

The process, for step k = click, and conversion given a click:
    logit p_k = intercept_k + user_k + item_k + situation_k[scenario, age]
                + weight_k <shared taste of user, of category> + <taste of user for k, taste of category for k>
                + sum over what is familiar of strength_k[kind] * ln(1 + times seen)
    user_k = effects of the eight profile fields + the user's own
    item_k = effects of category, shop and brand + the item's own
The shop (207) doubles as campaign: its effect has the standard deviation `campaign_std`. The intercepts are found by
bisection on a pilot sample, so that the rates come out as configured. About ten percent of the test rows show items,
and ten percent of the test lists are those of users, that never occur in train.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PROFILE = {"121": 97, "122": 13, "124": 2, "125": 7, "126": 3, "127": 3, "128": 2, "129": 4}
"""Number of values of each profile field."""
AGE = list(PROFILE).index("125")
STEPS, TASTES, DIMENSIONS = 2, 3, 4
SHARED_WEIGHT = (0.20, 0.25)
STRENGTH = ((0.54, 0.44, 0.26, 0.22), (0.36, 0.90, 0.60, 0.50))
"""By step and kind (category, shop, brand, intention)."""
EFFECT_STD = {"121": 0.14, "122": 0.28, "124": 0.14, "125": 0.26, "126": 0.06, "127": 0.14, "128": 0.10, "129": 0.10}
OWN_STD, CATEGORY_STD, BRAND_STD, ITEM_STD, SITUATION_STD = 0.12, 0.36, 0.12, 0.12, 0.18
TASTE_STD = {"121": 0.30, "122": 0.65, "124": 0.45, "125": 0.45}
OWN_TASTE_STD = 0.30
TASTE_SCALE = (1.0, 0.20, 0.28)
"""Standard deviation of the products of shared, click and conversion tastes."""
SHOWN_PROFILE = {"126": 0.412, "129": 0.628} | dict.fromkeys(["121", "122", "124", "125", "127", "128"], 0.866)
"""Share of the common lines that have the field; whoever lacks 121 lacks all."""
BRANDED = 0.726
KNOWN = (-0.85, 0.41, 0.56, 0.475, 1.1)
"""A category is known with probability sigmoid(KNOWN[0] + KNOWN[4] * shared taste); of a known category's shops, brands
and intentions, these shares are."""


class World(NamedTuple):
    """Users U, items I, categories C, entities E = categories, then shops, brands, intentions."""

    key: np.uint64
    old_users: int
    profile: Ints  # (U, 8)
    shown: NDArray[np.bool_]  # (U, 8): does the log have the field?
    activity: Floats  # (U,): relative length of the history
    user_effect: Floats  # (U, 2)
    user_taste: Floats  # (U, 3, K)
    user_code: Ints  # (U,): shuffled, so that an id does not betray its rank
    category_taste: Floats  # (C, 3, K)
    start: NDArray[np.int64]  # (5, C + 1): where a category's [itself, shops, brands, intentions, items] start
    new_items: NDArray[np.int64]  # (C,): the last so many items of a category stand in the test part alone
    item_shop: Ints  # (I,): entity
    item_brand: Ints  # (I,): entity, or -1
    item_intentions: Ints  # (I, 4): entities, or -1
    item_effect: Floats  # (I, 2)
    item_code: Ints  # (I,)
    entity_code: Ints  # (E,): shuffled within its kind
    situation: Floats  # (2, 3, 7): step, scenario, age
    known: Floats  # KNOWN


class Rows(NamedTuple):
    """What the process needs of N impressions, and the chance that decides them."""

    user: Ints
    item: Ints
    category: Ints
    scenario: Ints
    intention: Ints  # the last of the item's intentions that was drawn; the familiar one, if one is
    seen: NDArray[np.uint8]  # (N, 4): times the user saw the category, shop, brand, intention; 0 = unknown
    chance: Floats  # (N, 3): uniform numbers for click, conversion, inconsistent label


def logits(world: World, rows: Rows) -> Floats:
    """(N, 2): the logits without its intercepts."""
    products = _taste_products(world, rows)
    familiar = np.log1p(rows.seen, dtype=np.float64) @ np.array(STRENGTH).T
    situation = world.situation[:, rows.scenario, world.profile[rows.user, AGE]].T
    shared = products[:, :1] * np.array(SHARED_WEIGHT)
    entities = world.user_effect[rows.user] + world.item_effect[rows.item]
    z: Floats = entities + situation + familiar + shared + products[:, 1:]
    return z


def _taste_products(world: World, rows: Rows) -> Floats:
    users, categories = world.user_taste[rows.user], world.category_taste[rows.category]
    products: Floats = np.einsum("ntk,ntk->nt", users, categories)
    return products


def probabilities(z: Floats, intercepts: Floats) -> Floats:
    """(N, 2): p(click), p(conversion given click)."""
    p: Floats = 1 / (1 + np.exp(-(z + intercepts)))
    return p


def calibrate(z: Floats, click_rate: float, conversion_rate: float) -> Floats:
    """(2,): the intercepts at which the rows of a pilot sample have these expected rates; z (N, 2) from `logits`."""
    click = _bisect(z[:, 0], np.ones(len(z)), click_rate)
    clicked = 1 / (1 + np.exp(-(z[:, 0] + click)))
    return np.array([click, _bisect(z[:, 1], clicked, conversion_rate)])


def _bisect(z: Floats, weights: Floats, rate: float) -> float:
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        too_high = np.average(1 / (1 + np.exp(-(z + middle))), weights=weights) > rate
        low, high = (low, middle) if too_high else (middle, high)
    return (low + high) / 2
