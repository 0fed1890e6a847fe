"""Generated files, read by a second parser: format, shape, presence, and entities that agree with themselves."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from funnelcast.data.datasets.generator import process
from funnelcast.data.datasets.generator.generate import Summary, generate
from funnelcast.data.datasets.generator.text import FIRST_IDS
from funnelcast.data.datasets.generator.world import MOST_CATEGORIES, MOST_ITEMS, MOST_USERS, category_starts
from tests.data.datasets.generator.reference import Part

pytestmark = pytest.mark.slow

HISTORY_OF = {"508": "109_14", "509": "110_14", "702": "127_14", "853": "150_14"}
SOURCE_OF = {"508": "206", "509": "207", "702": "216", "853": "210"}
PRESENCE = {
    "205": 1,
    "206": 1,
    "207": 1,
    "210": 0.9997,
    "216": 0.726,
    "301": 1,
    "853": 0.45,
    "702": 0.258,
    "509": 0.257,
}
COMMON_PRESENCE = {"101": 0.997, "126": 0.412, "129": 0.628} | dict.fromkeys(
    ["121", "122", "124", "125", "127", "128"], 0.866
)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return generate(tmp_path_factory.mktemp("log") / "log", 45_000, seed=3)


@pytest.fixture(scope="module")
def parts(summary: Summary) -> dict[str, Part]:
    return {name: Part(summary.path, name) for name in ("train", "test")}


class TestFormat:
    def test_files(self, summary: Summary) -> None:
        names = {f"{kind}_{part}.csv" for kind in ("sample_skeleton", "common_features") for part in ("train", "test")}
        names |= {"truth_train.parquet", "truth_test.parquet", "README.txt", "generator.json"}
        assert {path.name for path in summary.path.iterdir()} == names
        assert "logit p_k" in (summary.path / "README.txt").read_text()

    def test_rows_are_numbered_and_train_comes_first(self, parts: dict[str, Part]) -> None:
        for name, rows in (("train", 30_000), ("test", 15_000)):
            assert parts[name].sample_ids == [str(i) for i in range(1, rows + 1)]
            assert parts[name].truth["sample_id"].to_pylist() == parts[name].sample_ids

    def test_feature_num_counts_the_features(self, parts: dict[str, Part]) -> None:
        for part in parts.values():
            lists = [part.common[index] for index in part.common_index]
            assert part.counts == [len(features) for features in part.rows + lists]

    def test_every_row_has_its_common_line_and_every_line_its_rows(self, parts: dict[str, Part]) -> None:
        for part in parts.values():
            assert set(part.index) == set(part.common_index)
            assert len(part.common_index) == len(set(part.common_index))
            assert all(len(index) == 16 and int(index, 16) >= 0 for index in part.common_index)
        assert not set(parts["train"].common_index) & set(parts["test"].common_index)

    def test_common_lines_stand_in_another_order_than_their_rows(self, parts: dict[str, Part]) -> None:
        assert list(dict.fromkeys(parts["train"].index)) != parts["train"].common_index

    def test_shape(self, parts: dict[str, Part]) -> None:
        part = parts["train"]
        sizes = np.array(list(Counter(part.index).values()))
        assert abs(sizes.mean() - 58) < 4 * 41 / math.sqrt(len(sizes))
        assert sizes.std() > 25
        lengths = np.array([len(features) for features in part.common.values()])
        assert 200 < lengths.mean() < 500
        assert 6 <= np.mean([len(row) for row in part.rows]) <= 13

    def test_presence(self, parts: dict[str, Part]) -> None:
        rows = [{field for field, _, _ in row} for part in parts.values() for row in part.rows]
        for field, share in PRESENCE.items():
            assert np.mean([field in row for row in rows]) == pytest.approx(share, abs=0.02), field
        lines = [{field for field, _, _ in line} for part in parts.values() for line in part.common.values()]
        for field, share in COMMON_PRESENCE.items():
            assert np.mean([field in line for line in lines]) == pytest.approx(share, abs=0.08), field

    def test_fields_share_no_id_and_their_order_varies(self, parts: dict[str, Part]) -> None:
        part = parts["train"]
        ids = defaultdict(set)
        for features in [*part.rows, *part.common.values()]:
            for field, code, _ in features:
                ids[field].add(code)
        assert set(ids) == set(FIRST_IDS)
        assert sum(map(len, ids.values())) == len(set().union(*ids.values()))
        assert len({tuple(field for field, _, _ in row) for row in part.rows}) > 1000
        assert len({line[0][0] for line in part.common.values()}) > 5

    def test_no_line_has_a_feature_twice(self, parts: dict[str, Part]) -> None:
        for part in parts.values():
            for features in [*part.rows, *part.common.values()]:
                assert len({(field, code) for field, code, _ in features}) == len(features)

    def test_values_are_logs_of_counts(self, parts: dict[str, Part]) -> None:
        logs = {round(math.log(1 + n), 5) for n in range(1, 64)}
        for features in [*parts["train"].rows, *parts["train"].common.values()]:
            for field, _, value in features:
                assert value in logs if field in HISTORY_OF or field in HISTORY_OF.values() else value == 1

    def test_ranges_of_ids_hold_the_largest_world(self) -> None:
        kinds = zip(
            ("categories", "shops", "brands", "intentions", "items"),
            category_starts(MOST_CATEGORIES, MOST_ITEMS),
            strict=True,
        )
        counts = {kind: int(start[-1] - start[0]) for kind, start in kinds} | {"users": round(1.1 * MOST_USERS)}
        sizes = {"101": "users", "205": "items"}
        sizes |= dict.fromkeys(("206", "508", "109_14"), "categories") | dict.fromkeys(
            ("207", "509", "110_14"), "shops"
        )
        sizes |= dict.fromkeys(("216", "702", "127_14"), "brands") | dict.fromkeys(
            ("210", "853", "150_14"), "intentions"
        )
        most = {field: counts[sizes[field]] if field in sizes else process.PROFILE.get(field, 3) for field in FIRST_IDS}
        ordered = sorted(FIRST_IDS, key=lambda field: FIRST_IDS[field])
        for field, after in itertools.pairwise(ordered):
            assert FIRST_IDS[field] + most[field] <= FIRST_IDS[after], field


class TestEntities:
    def test_a_row_names_what_its_history_has_and_nothing_else(self, parts: dict[str, Part]) -> None:
        part = parts["test"]
        for index, row in zip(part.index, part.rows, strict=True):
            history = part.histories[index]
            for combination, source in SOURCE_OF.items():
                here = {code - FIRST_IDS[source] for field, code, _ in row if field == source}
                named = {code - FIRST_IDS[combination]: value for field, code, value in row if field == combination}
                if source != "210":
                    assert set(named) == {code for code in here if (HISTORY_OF[combination], code) in history}
                elif here:
                    assert set(named) <= here
                assert all(history[HISTORY_OF[combination], code] == value for code, value in named.items())

    def test_users_keep_their_profile_and_items_their_attributes(self, parts: dict[str, Part]) -> None:
        users, items = defaultdict(set), defaultdict(set)
        for part in parts.values():
            for line in part.common.values():
                known = {field: code for field, code, _ in line if "_" not in field}
                users[known.pop("101", 0)].add(tuple(sorted(known.items())))
            for row in part.rows:
                mine = {field: code for field, code, _ in row if field in ("205", "206", "207", "216")}
                items[mine.pop("205")].add(tuple(sorted(mine.items())))
        users.pop(0)
        assert max(map(len, users.values())) == 1
        assert max(map(len, items.values())) == 1
        assert len(items) > 2000

    def test_ids_have_heavy_tails(self, parts: dict[str, Part]) -> None:
        for field, kept, top_tenth in (("205", 0.05, 0.40), ("206", 0.90, 0.22), ("207", 0.60, 0.27)):
            counts = sorted(Counter(c for row in parts["train"].rows for f, c, _ in row if f == field).values())
            assert np.mean(np.array(counts) >= 12) > kept
            assert sum(counts[-(len(counts) // 10) :]) > top_tenth * sum(counts)

    def test_a_tenth_of_the_test_part_is_new(self, parts: dict[str, Part]) -> None:
        old = parts["train"].ids("205")
        items = [code for row in parts["test"].rows for field, code, _ in row if field == "205"]
        assert 0.09 < np.mean([code not in old for code in items]) < 0.14
        users = [{c for line in p.common.values() for f, c, _ in line if f == "101"} for p in parts.values()]
        assert len(users[1] - users[0]) > 0.1 * len(users[1])
