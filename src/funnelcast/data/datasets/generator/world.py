"""The entities of a generated log: drawn once, their number growing more slowly than the log."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from funnelcast.data.datasets.generator import process
from funnelcast.data.datasets.generator.lists import CATEGORY_TAIL, MEAN_ROWS, MOST_ACTIVE, NEW_SHARE
from funnelcast.data.datasets.generator.process import DIMENSIONS, PROFILE, STEPS, TASTES, Floats, Ints, World

SHOP, BRAND, INTENTION, ITEM = range(1, 5)
"""Rows of `World.start`."""
MOST_USERS, MOST_CATEGORIES, MOST_ITEMS, MOST_SHOPS, MOST_BRANDS = 390_000, 18_000, 3_600_000, 400_000, 250_000
"""So that no field outgrows its range of ids."""


def build_world(train_rows: int, seed: int, campaign_std: float) -> World:
    """The world of a log with so many training rows."""
    rng = np.random.default_rng([seed, 0])
    old_users = round(_between(60, 1.6 * (train_rows / MEAN_ROWS) ** 0.9, MOST_USERS))
    categories = round(_between(24, train_rows**0.5, MOST_CATEGORIES))
    start = category_starts(categories, round(_between(500, 4 * train_rows**0.7, MOST_ITEMS)))
    shop, brand, intentions = _links(rng, start)
    return World(
        key=rng.integers(2**64, dtype=np.uint64),
        old_users=old_users,
        **_users(rng, round(old_users * (1 + NEW_SHARE))),
        category_taste=_category_tastes(rng, categories),
        start=start,
        new_items=np.maximum(1, np.diff(start[ITEM]) * NEW_SHARE).astype(np.int64),
        item_shop=shop,
        item_brand=brand,
        item_intentions=intentions,
        item_effect=_item_effects(rng, start, shop, brand, campaign_std),
        item_code=_shuffled(rng, len(shop)),
        entity_code=np.concatenate([_shuffled(rng, end - begin) for begin, end in start[:ITEM, [0, -1]]]),
        situation=rng.normal(0, process.SITUATION_STD, (STEPS, 3, 1))
        + rng.normal(0, process.SITUATION_STD, (STEPS, 3, PROFILE["125"])),
        known=np.array(process.KNOWN),
    )


def entity_counts(world: World) -> dict[str, int]:
    """How many there are of each kind."""
    kinds = zip(("categories", "shops", "brands", "intentions", "items"), world.start, strict=True)
    return {"users": len(world.profile), **{kind: int(start[-1] - start[0]) for kind, start in kinds}}


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(value, high))


def _shuffled(rng: Generator, count: int) -> Ints:
    return rng.permutation(count)


def category_starts(categories: int, items: int) -> Ints:
    """(5, C + 1): each category's ranges, as large as its popularity. Shops, brands and intentions are numbered one
    after the other behind the categories, items by themselves.
    """
    shops, brands = min(items // 5, MOST_SHOPS), min(items // 8, MOST_BRANDS)
    sizes = np.stack([_sizes(categories, *kind) for kind in ((shops, 1), (brands, 1), (8 * categories, 2))])
    ends = categories + np.cumsum(sizes).reshape(sizes.shape)
    begins = np.concatenate([[categories], ends[:-1, -1]])
    rows = np.concatenate([begins[:, None], ends], axis=1)
    items_start = np.concatenate([[0], np.cumsum(_sizes(categories, items, 4))])
    return np.concatenate([[np.arange(categories + 1)], rows, [items_start]])


def _sizes(categories: int, total: int, least: int) -> Ints:
    """(C,): so many of a kind each category has, `total` in all or a few fewer."""
    popularity = np.diff((np.arange(categories + 1) / categories) ** (1 / CATEGORY_TAIL))
    return least + np.floor(popularity * max(0, total - least * categories)).astype(np.int64)


def _links(rng: Generator, start: Ints) -> tuple[Ints, Ints, Ints]:
    """Shop (I,), brand (I,) and intentions (I, 4) of each item, all of the item's category."""
    category = item_categories(start)
    items = len(category)
    shop = _pick(rng, start[SHOP], category, 1.5)
    brand = np.where(rng.random(items) < process.BRANDED, _pick(rng, start[BRAND], category, 1.5), -1)
    intentions = np.stack([_pick(rng, start[INTENTION], category, 1.3) for _ in range(4)], axis=1)
    repeated = np.stack([(intentions[:, :k] == intentions[:, k : k + 1]).any(axis=1) for k in range(4)], axis=1)
    cut = np.arange(4) >= rng.integers(1, 5, (items, 1))
    return shop, brand, np.where(repeated | cut, -1, intentions)


def item_categories(start: Ints) -> Ints:
    """The category of each item, from where each category's items start."""
    return np.repeat(np.arange(start.shape[1] - 1), np.diff(start[ITEM]))


def _pick(rng: Generator, start: Ints, category: Ints, tail: float) -> Ints:
    size = np.diff(start)[category]
    return start[category] + np.floor(size * rng.random(len(category)) ** tail).astype(np.int64)


def _users(rng: Generator, users: int) -> dict[str, Any]:
    profile = np.stack([np.floor(n * rng.random(users) ** 1.3) for n in PROFILE.values()], axis=1).astype(np.int64)
    effect = rng.normal(0, process.OWN_STD, (users, STEPS))
    taste = rng.normal(0, process.OWN_TASTE_STD, (users, TASTES, DIMENSIONS))
    for i, (field, count) in enumerate(PROFILE.items()):
        effect += rng.normal(0, process.EFFECT_STD[field], (count, STEPS))[profile[:, i]]
        taste += rng.normal(0, process.TASTE_STD.get(field, 0), (count, TASTES, DIMENSIONS))[profile[:, i]]
    return {
        "profile": profile,
        "shown": _shown(rng, users),
        "activity": np.exp(rng.normal(0, 0.5, users)).clip(0.3, MOST_ACTIVE),
        "user_effect": effect,
        "user_taste": taste,
        "user_code": _shuffled(rng, users),
    }


def _shown(rng: Generator, users: int) -> NDArray[np.bool_]:
    share = np.array([process.SHOWN_PROFILE[field] for field in PROFILE])
    has_profile = rng.random((users, 1)) < share.max()
    shown: NDArray[np.bool_] = has_profile & (rng.random((users, len(PROFILE))) < share / share.max())
    return shown


def _category_tastes(rng: Generator, categories: int) -> Floats:
    scale = np.array(process.TASTE_SCALE)[:, None] / DIMENSIONS**0.5
    tastes: Floats = rng.normal(0, 1, (categories, TASTES, DIMENSIONS)) * scale
    return tastes


def _item_effects(rng: Generator, start: Ints, shop: Ints, brand: Ints, campaign_std: float) -> Floats:
    entities = rng.normal(0, 1, (start[INTENTION, 0], STEPS))
    entities[: start[SHOP, 0]] *= process.CATEGORY_STD
    entities[start[SHOP, 0] : start[BRAND, 0]] *= campaign_std
    entities[start[BRAND, 0] :] *= process.BRAND_STD
    branded = (brand >= 0)[:, None]
    own: Floats = rng.normal(0, process.ITEM_STD, (len(shop), STEPS))
    return own + entities[item_categories(start)] + entities[shop] + np.where(branded, entities[brand], 0)
