"""Exposure lists drawn from a world: who was shown what, and every feature the log has of it.

A list depends on the world, its part and its place alone, whoever draws it and when. (numba's cache does not notice a
change of generator_text or generator_chance: delete `__pycache__` after one.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.datasets.generator.counter_random import Keys, hash_of, uniform, zipf
from funnelcast.data.datasets.generator.process import Rows, World
from funnelcast.data.datasets.generator.text import FIELDS, MOST_SEEN, Lines, shuffle

USER_TAIL, CATEGORY_TAIL, TAIL = 1.6, 2.0, 3.0
"""An entity's rank is N * uniform ** tail: Zipf's law with exponent 1 - 1 / tail."""
NEW_SHARE = 0.1
"""Share of the test lists, and of the test rows, of users and items that train lacks."""
MEAN_ROWS = 58
LONGEST = 400
"""Rows of the longest list."""
PERSONAL = 0.45
"""Share of the rows that show a category out of the user's history; the others show what is popular."""
HISTORY = (30, 130, 85, 110)
"""Categories, shops, brands and intentions in the history of a user of activity 1, at most."""
MOST_ACTIVE = 4.0
HAS_USER, HAS_INTENTION = 0.997, 0.9997
"""Share of the lines that have 101, 210."""
MOST_FEATURES = 13
"""Features of the longest skeleton line."""

CATEGORY, SHOP, BRAND, INTENTION = np.array([0, 1, 2, 3])
"""Kinds of what can be familiar; numpy integers, as numba would compile a kernel anew for each Python constant."""
_USER, _PROFILE, _HISTORY, _ITEM, _INTENTION, _BRAND, _FAMILIAR, _SCENARIO = np.array(
    [FIELDS.index(field) for field in ("101", "121", "109_14", "205", "210", "216", "508", "301")]
)
"""Places in FIELDS; category and shop follow the item; histories, and the familiar, stand in the order of kinds."""
_HALF, _LOW = np.uint64(32), np.uint64(2**32 - 1)


class Memory(NamedTuple):
    """What is known of the user of the list being drawn."""

    listed: NDArray[np.uint64]  # (E,): the key of the last list whose history has the entity
    entity: NDArray[np.int64]  # (4, most)
    size: NDArray[np.int64]  # (4,)


@compiled
def list_sizes(keys: Keys) -> NDArray[np.int64]:
    """Rows of each list: 58 in the mean, with a long tail."""
    sizes, state = np.empty(len(keys), np.int64), np.empty(1, np.uint64)
    for i in range(len(keys)):
        state[0] = ~keys[i]
        waits = -np.log((1 - uniform(state)) * (1 - uniform(state)))
        sizes[i] = min(LONGEST, 1 + int(waits * (MEAN_ROWS - 0.5) / 2))
    return sizes


@compiled
def draw_lists(
    world: World,
    keys: Keys,
    ends: NDArray[np.int64],
    new: bool,
    memory: Memory,
    rows: Rows,
    skeleton: Lines,
    common: Lines,
) -> None:
    """Fill rows and lines. List i has the rows [ends[i], ends[i + 1]); only `new` lists have users and items that train
    lacks.
    """
    state = np.empty(1, np.uint64)
    for i in range(len(keys)):
        state[0] = keys[i]
        user = _choose_user(world, state, new)
        scenario = min(2, int(3 * uniform(state) ** 1.6))
        _recall_categories(world, user, memory, keys[i], state)
        recalled = memory.size[CATEGORY]
        for row in range(ends[i], ends[i + 1]):
            rows.user[row], rows.scenario[row] = user, scenario
            _show(world, rows, row, recalled, memory, new, keys[i], state)
            _write_row(world, rows, row, skeleton, state)
        for kind in (SHOP, BRAND, INTENTION):
            _recall(world, user, kind, recalled, memory, keys[i], state)
        _write_list(world, user, memory, common, i, state)


@compiled
def _choose_user(world: World, state: Keys, new: bool) -> int:
    if new and uniform(state) < NEW_SHARE:
        return world.old_users + int((len(world.profile) - world.old_users) * uniform(state))
    return zipf(state, world.old_users, USER_TAIL)


@compiled
def times_seen(world: World, user: int, entity: int, kind: int) -> int:
    """How often the user saw an entity, 0 = never; shops, brands, intentions are asked only of a known category."""
    share = world.known[kind]
    if kind == CATEGORY:
        taste = 0.0
        for k in range(world.user_taste.shape[2]):
            taste += world.user_taste[user, 0, k] * world.category_taste[entity, 0, k]
        share = 1 / (1 + np.exp(-world.known[0] - world.known[4] * taste))
    luck = hash_of(hash_of(world.key, user), entity)
    if (luck >> _HALF) * 2.0**-32 >= share:
        return 0
    return min(MOST_SEEN, int(1 / np.sqrt(((luck & _LOW) + 1) * 2.0**-32)))


@compiled
def _recall_categories(world: World, user: int, memory: Memory, key: np.uint64, state: Keys) -> None:
    memory.size[:] = 0
    categories = world.start.shape[1] - 1
    wanted = int(HISTORY[CATEGORY] * world.activity[user])
    for _ in range(4 * wanted):
        if memory.size[CATEGORY] == wanted:
            break
        category = zipf(state, categories, CATEGORY_TAIL)
        if times_seen(world, user, category, CATEGORY):
            _remember(memory, CATEGORY, category, key)


@compiled
def _recall(world: World, user: int, kind: int, recalled: int, memory: Memory, key: np.uint64, state: Keys) -> None:
    """Fill the history of a kind from the user's categories, behind what the rows have put there."""
    wanted = int(HISTORY[kind] * world.activity[user]) if recalled else 0
    for _ in range(3 * wanted):
        if memory.size[kind] >= wanted:
            break
        category = memory.entity[CATEGORY, int(recalled * uniform(state))]
        entity = _one_of(world, kind, category, state)
        if times_seen(world, user, entity, kind):
            _remember(memory, kind, entity, key)


@compiled
def _one_of(world: World, kind: int, category: int, state: Keys) -> int:
    start = world.start[kind, category]
    return int(start + zipf(state, world.start[kind, category + 1] - start, TAIL))


@compiled
def _remember(memory: Memory, kind: int, entity: int, key: np.uint64) -> None:
    if memory.listed[entity] != key:
        memory.listed[entity] = key
        memory.entity[kind, memory.size[kind]] = entity
        memory.size[kind] += 1


@compiled
def _show(
    world: World, rows: Rows, row: int, recalled: int, memory: Memory, new: bool, key: np.uint64, state: Keys
) -> None:
    """Choose an item, say how familiar it is, and draw the chance of the labels."""
    if recalled and uniform(state) < PERSONAL:
        category = memory.entity[CATEGORY, int(recalled * uniform(state))]
    else:
        category = zipf(state, world.start.shape[1] - 1, CATEGORY_TAIL)
    item = _choose_item(world, category, new, state)
    rows.category[row], rows.item[row] = category, item
    _meet(world, rows, row, CATEGORY, category, memory, key)
    _meet(world, rows, row, SHOP, world.item_shop[item], memory, key)
    _meet(world, rows, row, BRAND, world.item_brand[item], memory, key)
    for intention in world.item_intentions[item]:
        if not rows.seen[row, INTENTION]:
            rows.intention[row] = intention
            _meet(world, rows, row, INTENTION, intention, memory, key)
    for k in range(3):
        rows.chance[row, k] = uniform(state)


@compiled
def _choose_item(world: World, category: int, new: bool, state: Keys) -> int:
    end = world.start[4, category + 1]
    if new and uniform(state) < NEW_SHARE:
        return int(end - 1 - zipf(state, world.new_items[category], TAIL))
    start = world.start[4, category]
    return int(start + zipf(state, end - start - world.new_items[category], TAIL))


@compiled
def _meet(world: World, rows: Rows, row: int, kind: int, entity: int, memory: Memory, key: np.uint64) -> None:
    """An entity of the shown item: if the user knows it, the row and the history say so."""
    if entity < 0 or (kind != CATEGORY and not rows.seen[row, CATEGORY]):
        return
    rows.seen[row, kind] = times_seen(world, rows.user[row], entity, kind)
    if rows.seen[row, kind]:
        _remember(memory, kind, entity, key)


@compiled
def _write_row(world: World, rows: Rows, row: int, lines: Lines, state: Keys) -> None:
    """The skeleton's features of an impression, in the order of FIELDS."""
    item, category, seen = rows.item[row], rows.category[row], rows.seen[row]
    shop, brand, intentions = world.item_shop[item], world.item_brand[item], world.item_intentions[item]
    for place, code in enumerate((world.item_code[item], world.entity_code[category], world.entity_code[shop])):
        _put(lines, row, _ITEM + place, code, code >= 0)
    if uniform(state) < HAS_INTENTION:
        for intention in intentions:
            _put(lines, row, _INTENTION, world.entity_code[intention], intention >= 0)
    _put(lines, row, _BRAND, world.entity_code[brand], brand >= 0)
    for kind, entity in enumerate((category, shop, brand, rows.intention[row])):
        _put_seen(lines, row, _FAMILIAR + kind, world.entity_code[entity], seen[kind])
    _put(lines, row, _SCENARIO, rows.scenario[row], rows.scenario[row] >= 0)
    lines.end[row + 2 : row + 3] = lines.end[row + 1]


@compiled
def _write_list(world: World, user: int, memory: Memory, lines: Lines, line: int, state: Keys) -> None:
    """The common features of a list, in the order of FIELDS; each history is shuffled."""
    _put(lines, line, _USER, world.user_code[user], uniform(state) < HAS_USER)
    for i in range(world.profile.shape[1]):
        _put(lines, line, _PROFILE + i, world.profile[user, i], world.shown[user, i])
    for kind in range(4):
        history = memory.entity[kind, : memory.size[kind]]
        shuffle(history, state)
        for entity in history:
            times = times_seen(world, user, entity, kind)
            _put_seen(lines, line, _HISTORY + kind, world.entity_code[entity], times)
    lines.end[line + 2 : line + 3] = lines.end[line + 1]


@compiled
def _put(lines: Lines, line: int, field: int, code: int, there: bool) -> None:
    if there:
        at = lines.end[line + 1]
        lines.field[at], lines.code[at], lines.times[at] = field, code, 0
        lines.end[line + 1] += 1


@compiled
def _put_seen(lines: Lines, line: int, field: int, code: int, times: int) -> None:
    _put(lines, line, field, code, times > 0)
    if times > 0:
        lines.times[lines.end[line + 1] - 1] = times
