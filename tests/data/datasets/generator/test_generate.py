"""The generated log: its process against its labels, its bytes against its seed, its settings against their rules."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from funnelcast.data.datasets.generator import blocks, process
from funnelcast.data.datasets.generator.blocks import Generator
from funnelcast.data.datasets.generator.generate import REALISTIC, GeneratorConfig, Summary, generate, write_log
from funnelcast.data.datasets.generator.world import build_world
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.evaluation.auc import auc
from tests.data.datasets.generator.reference import Part


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return generate(tmp_path_factory.mktemp("log") / "log", 9_000, seed=3)


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


class TestProcess:
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
                    + process.SHARED_WEIGHT[step] * shared
                    + own
                )
                z += world.situation[step, scenario, world.profile[user, 3]] + generator.intercepts[step]
                z += sum(s * math.log(1 + n) for s, n in zip(process.STRENGTH[step], block.rows.seen[i], strict=True))
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
        monkeypatch.setattr(blocks, "LISTS_PER_BLOCK", 7)
        small = _bytes(generate(tmp_path / "small", 6_000).path)
        for name in whole:
            if name.startswith("truth"):
                assert pq.read_table(tmp_path / "whole" / name).equals(pq.read_table(tmp_path / "small" / name))
            elif name.startswith("common"):
                assert sorted(whole[name].splitlines()) == sorted(small[name].splitlines())
            else:
                assert whole[name] == small[name], name

    def test_a_block_drawn_alone_is_the_same(self) -> None:
        generator = Generator(GeneratorConfig(rows=100_000))
        alone = generator.block("train", blocks.LISTS_PER_BLOCK, 5_000)
        in_turn = list(generator.blocks("train"))[1]
        np.testing.assert_array_equal(in_turn.truth[:5_000], alone.truth)
        np.testing.assert_array_equal(in_turn.keys[: len(alone.keys)], alone.keys)


class TestConfig:
    def test_summary_and_json(self, summary: Summary, parts: dict[str, Part]) -> None:
        written = json.loads((summary.path / "generator.json").read_text())
        assert GeneratorConfig.from_dict(written["settings"]) == summary.config
        for name, counts in (("train", summary.train), ("test", summary.test)):
            assert counts.rows == len(parts[name].rows) == written[name]["rows"]
            assert counts.lists == len(parts[name].common) == written[name]["lists"]
            assert [counts.clicks, counts.conversions] == parts[name].labels.sum(axis=0).tolist()
            assert written[name]["click_rate"] == counts.clicks / counts.rows

    def test_inconsistent_rows_on_demand(self, tmp_path: Path) -> None:
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
