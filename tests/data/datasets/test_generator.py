"""The generated log: its format read by a second, plain parser; its law checked against its labels."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from funnelcast.data.datasets import generator_blocks, law
from funnelcast.data.datasets.generator import REALISTIC, GeneratorConfig, Summary, generate, write_log
from funnelcast.data.datasets.generator_blocks import Generator
from funnelcast.data.datasets.generator_text import FIRST_IDS
from funnelcast.data.datasets.generator_world import (
    MOST_CATEGORIES,
    MOST_ITEMS,
    MOST_USERS,
    build_world,
    category_starts,
)
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.evaluation.auc import auc

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

Features = list[tuple[str, int, float]]


class Part:
    """A part of a log, read by splitting text."""

    def __init__(self, folder: Path, name: str) -> None:
        skeleton = [line.split(",") for line in (folder / f"sample_skeleton_{name}.csv").read_text().splitlines()]
        common = [line.split(",") for line in (folder / f"common_features_{name}.csv").read_text().splitlines()]
        self.sample_ids = [line[0] for line in skeleton]
        self.labels = np.array([[int(line[1]), int(line[2])] for line in skeleton])
        self.index = [line[3] for line in skeleton]
        self.counts = [int(line[4]) for line in skeleton] + [int(line[1]) for line in common]
        self.rows = [_features(line[5]) for line in skeleton]
        self.common_index = [line[0] for line in common]
        self.common = {line[0]: _features(line[2]) for line in common}
        self.truth = pq.read_table(folder / f"truth_{name}.parquet")

    @cached_property
    def histories(self) -> dict[str, dict[tuple[str, int], float]]:
        """Per list: (field, id counted from the field's first) -> value."""
        return {i: {(f, code - FIRST_IDS[f]): value for f, code, value in line} for i, line in self.common.items()}

    def ids(self, field: str) -> set[int]:
        return {code for row in self.rows for f, code, _ in row if f == field}


def _features(text: str) -> Features:
    parts = [feature.split("\x02") for feature in text.split("\x01")]
    return [(field, int(rest.split("\x03")[0]), float(rest.split("\x03")[1])) for field, rest in parts]


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return generate(tmp_path_factory.mktemp("log") / "log", 45_000, seed=3)


@pytest.fixture(scope="module")
def parts(summary: Summary) -> dict[str, Part]:
    return {name: Part(summary.path, name) for name in ("train", "test")}


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Labels and truth of 180,000 impressions."""
    generator = Generator(GeneratorConfig(rows=180_000, seed=1))
    blocks = [block for part in ("train", "test") for block in generator.blocks(part)]
    return np.concatenate([b.labels for b in blocks]), np.concatenate([b.truth for b in blocks])


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
        most = {field: counts[sizes[field]] if field in sizes else law.PROFILE.get(field, 3) for field in FIRST_IDS}
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
        assert np.mean([code not in old for code in items]) == pytest.approx(0.105, abs=0.015)
        users = [{c for line in p.common.values() for f, c, _ in line if f == "101"} for p in parts.values()]
        assert len(users[1] - users[0]) > 0.1 * len(users[1])


class TestLaw:
    def test_a_logit_by_hand(self) -> None:
        generator = Generator(GeneratorConfig(rows=2_000))
        world, block = generator.world, next(generator.blocks("test"))
        for i in range(0, 600, 7):
            user, item, category, scenario, _ = (int(ids[i]) for ids in block.rows[:5])
            for step in (0, 1):
                shared, own = (world.user_taste[user, t] @ world.category_taste[category, t] for t in (0, 1 + step))
                z = (
                    world.user_effect[user, step]
                    + world.item_effect[item, step]
                    + law.SHARED_WEIGHT[step] * shared
                    + own
                )
                z += world.situation[step, scenario, world.profile[user, 3]] + generator.intercepts[step]
                z += sum(s * math.log(1 + n) for s, n in zip(law.STRENGTH[step], block.rows.seen[i], strict=True))
                assert block.truth[i, step] == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-12)

    def test_file_has_the_truth_and_the_labels(self, summary: Summary, parts: dict[str, Part]) -> None:
        generator = Generator(summary.config)
        for name, part in parts.items():
            blocks = list(generator.blocks(name))
            truth = np.stack([part.truth[column].to_numpy() for column in part.truth.column_names[1:]], axis=1)
            np.testing.assert_array_equal(truth, np.concatenate([block.truth for block in blocks]))
            np.testing.assert_array_equal(part.labels, np.concatenate([block.labels for block in blocks]))

    def test_rates(self, drawn: tuple[np.ndarray, np.ndarray]) -> None:
        (click, conversion), clicks = drawn[0].T, drawn[0][:, 0].sum()
        assert click.mean() == pytest.approx(0.04, rel=0.06)
        assert conversion.sum() / clicks == pytest.approx(0.20, rel=0.08)
        assert not (conversion > click).any()

    def test_labels_are_calibrated_to_the_truth(self, drawn: tuple[np.ndarray, np.ndarray]) -> None:
        labels, truth = drawn
        clicked = labels[:, 0] == 1
        for y, p in ((labels[:, 0], truth[:, 0]), (labels[clicked, 1], truth[clicked, 1])):
            for rows in np.array_split(np.argsort(p), 10):
                assert abs((y[rows] - p[rows]).sum()) < 4 * math.sqrt((p[rows] * (1 - p[rows])).sum())

    def test_best_reachable_auc(self, drawn: tuple[np.ndarray, np.ndarray]) -> None:
        labels, truth = drawn
        clicked = labels[:, 0] == 1
        assert 0.70 < auc(labels[:, 0], truth[:, 0]) < 0.76
        assert 0.72 < auc(labels[clicked, 1], truth[clicked, 1]) < 0.80
        assert 0.80 < auc(labels[:, 1], truth.prod(axis=1)) < 0.88

    def test_campaigns_are_alike_without_their_spread(self) -> None:
        worlds = [build_world(20_000, 0, std) for std in (0.0, 0.5, 1.0)]
        step = worlds[1].item_effect - worlds[0].item_effect
        np.testing.assert_allclose(worlds[2].item_effect - worlds[0].item_effect, 2 * step)
        shops = worlds[0].item_shop
        assert step[shops == shops[0]].std(axis=0) == pytest.approx(0, abs=1e-9)
        assert step[np.unique(shops, return_index=True)[1]].std() == pytest.approx(0.5, rel=0.1)

    def test_realistic_rates(self, tmp_path: Path) -> None:
        summary = generate(tmp_path / "log", 20_000, **REALISTIC)
        assert summary.train.click_rate == pytest.approx(0.0388, rel=0.15)
        assert summary.train.conversions < 20


class TestReproducible:
    def test_same_seed_same_bytes(self, tmp_path: Path) -> None:
        logs = [_bytes(generate(tmp_path / str(i), 3_000, seed=seed).path) for i, seed in enumerate((5, 5, 6))]
        assert logs[0] == logs[1]
        assert all(logs[0][name] != logs[2][name] for name in logs[0])

    def test_size_of_blocks_changes_nothing_but_the_order_of_common_lines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = _bytes(generate(tmp_path / "whole", 6_000).path)
        monkeypatch.setattr(generator_blocks, "LISTS_PER_BLOCK", 7)
        small = _bytes(generate(tmp_path / "small", 6_000).path)
        for name in whole:
            if name.startswith("truth"):
                assert pq.read_table(tmp_path / "whole" / name).equals(pq.read_table(tmp_path / "small" / name))
            elif name.startswith("common"):
                assert sorted(whole[name].splitlines()) == sorted(small[name].splitlines())
            else:
                assert whole[name] == small[name], name

    def test_a_block_drawn_alone_is_the_same(self) -> None:
        config = GeneratorConfig(rows=100_000)
        in_turn = list(Generator(config).blocks("train"))[1]
        alone = Generator(config).block("train", generator_blocks.LISTS_PER_BLOCK, len(in_turn.labels))
        np.testing.assert_array_equal(in_turn.truth, alone.truth)
        np.testing.assert_array_equal(in_turn.keys, alone.keys)


class TestAsked:
    def test_summary_and_json(self, summary: Summary, parts: dict[str, Part]) -> None:
        written = json.loads((summary.path / "generator.json").read_text())
        assert GeneratorConfig.from_dict(written["settings"]) == summary.config
        for name, counts in (("train", summary.train), ("test", summary.test)):
            assert counts.rows == len(parts[name].rows) == written[name]["rows"]
            assert counts.lists == len(parts[name].common) == written[name]["lists"]
            assert [counts.clicks, counts.conversions] == parts[name].labels.sum(axis=0).tolist()
            assert written[name]["click_rate"] == counts.clicks / counts.rows

    def test_broken_rows_on_demand(self, tmp_path: Path) -> None:
        summary = write_log(tmp_path / "log", GeneratorConfig(rows=10_000, broken_rate=0.05))
        labels = Part(summary.path, "train").labels
        broken = int((labels[:, 1] > labels[:, 0]).sum())
        assert summary.train.broken == broken
        assert broken / (labels[:, 0] == 0).sum() == pytest.approx(0.05, abs=0.012)

    def test_progress_reaches_the_end(self, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int]] = []
        generate(
            tmp_path / "log",
            1_000,
            progress=lambda stage, done, total, unit, note="": calls.append((stage, done, total)),
        )
        assert calls[-1] == ("generate test", 333, 333)

    def test_a_failed_run_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path / "log", 1_000, progress=fail)
        assert not list(tmp_path.iterdir())

    def test_existing_folder(self, tmp_path: Path) -> None:
        (tmp_path / "log").mkdir()
        with pytest.raises(FunnelcastError, match="exists already"):
            generate(tmp_path / "log", 1_000)
        assert generate(tmp_path / "log", 1_000, replace=True).train.rows == 667

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("rows", 999, "999 is too few .* ask for 1000 or more"),
            ("seed", -1, "-1 is negative; give 0"),
            ("click_rate", 0.0, "0 is not between 0 and 1; give a share"),
            ("conversion_rate", 20, "20 is not between 0 and 1; .* not a percentage"),
            ("test_share", 1.0, "1 is not between 0 and 1"),
            ("campaign_std", -0.1, "-0.1 is not within 0 and 1"),
            ("click_rates", 0.1, "did you mean 'click_rate'"),
        ],
    )
    def test_bad_settings(self, setting: str, value: float, message: str) -> None:
        with pytest.raises(ConfigError, match=f"{setting}: .*{message}"):
            GeneratorConfig.from_dict({setting: value})

    def test_all_faults_at_once_and_nothing_written(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as error:
            generate(tmp_path / "log", 10, click_rate=4, test_share=0)
        assert [fault.where for fault in error.value.faults] == ["rows", "click_rate", "test_share"]
        assert not list(tmp_path.iterdir())
