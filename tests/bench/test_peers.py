"""The faults of other libraries that users met: each has its test, so that none of them comes to be here.

One has none yet: MetaHeac's inner step that changes nothing, as there is no meta-learning; it comes with that.
GradNorm, whose gradients torch-rechub takes at the wrong layer, is not here either; tested is that gradients belong to
the parameters that they are said to be of.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from funnelcast.boosting.fit import Boosting
from funnelcast.data.batch import Batch
from funnelcast.data.table import Table
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.funnel import sample_space
from funnelcast.evaluation.metrics import expected_calibration_error, observed_over_predicted
from funnelcast.experiments.evaluate import evaluate
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.predict import predict_file
from funnelcast.experiments.run import Run, train
from funnelcast.models.network import GROUPS, FunnelModel
from funnelcast.models.ple import PLE
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.step import PlainStep, Trained
from funnelcast.training.trainer import Trainer
from tests import tiny
from tests.models.reference import FUNNELS, LISTED, PLAIN, build, draw_batch, small
from tests.models.test_network import POOLING, every_network
from tests.training.runs import run

MODELS = {
    "man": tiny.experiment(),
    "lightgbm": Experiment.from_dict({"model": {"name": "lightgbm", "rounds": 5}, "workers": 1}),
}
CONFIG = LossConfig(weighting="fixed", normalise=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("peers") / "table", test=300)


@pytest.fixture(scope="module", params=MODELS)
def finished(table: Table, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    return train(MODELS[request.param], table, tmp_path_factory.mktemp("peers") / "run")


def step(model: FunnelModel, batch: Batch, parameters: list[torch.nn.Parameter]) -> Gradients:
    """Of the plain sum of the losses, in float64."""
    weights = build_loss_weights(CONFIG, [0.5] * len(model.parents)).double()
    return PlainStep(Objective(model, weights, CONFIG), Trained(parameters, True), 1000)(batch, 0, None)


def labelled(batch: Batch, steps: int) -> Batch:
    labels = np.cumprod(np.random.default_rng(0).random((len(batch), steps)) < 0.7, axis=1)
    return Batch(batch.ids, batch.numeric, torch.from_numpy(labels.astype(np.uint8)), lists=batch.lists)


@pytest.mark.parametrize("stage", ["all", "top"])
@pytest.mark.parametrize("form", ["paper", "kendall"])
def test_torch_rechub_every_learnable_loss_weight_moves(form: str, stage: str, table: Table, tmp_path: Path) -> None:
    """There uncertainty weights are not given to the optimizer. To their optimum: tests/training/test_losses."""
    experiment = tiny.experiment(
        loss={"weighting": "uncertainty", "form": form}, stages=[{"train": stage, "epochs": 1}]
    )
    (learned,) = run(experiment, table, tmp_path).loss_weights.parameters()
    assert learned.shape == (2,) and torch.all(learned != 0)


@pytest.mark.parametrize("name", ["man", "ple", "single_task"])
def test_torch_rechub_gradients_are_of_the_parameters_that_they_are_said_to_be_of(name: str) -> None:
    """There GradNorm takes the norm at the first layer it meets, not at the last shared one."""
    model, batch = build(small(name, pooling=POOLING), FUNNELS["chain"], LISTED), draw_batch(12, inputs=LISTED)
    batch = labelled(batch, 2)
    assert batch.labels is not None
    log_p, log_q = model(batch)
    loss = -torch.where(batch.labels == 1, log_p, log_q).mean(0).sum()
    for group in GROUPS[1:]:  # a step gives the gradient of embedded rows apart
        parameters = list(model.groups([group]).values())
        expected = torch.autograd.grad(loss, parameters, retain_graph=True) if parameters else ()
        for found, grad in zip(step(model, batch, parameters).parameters, expected, strict=True):
            torch.testing.assert_close(found, grad)


@pytest.mark.parametrize("name", MODELS)
def test_mtreclib_the_test_part_is_not_opened_before_training_ends(
    name: str, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There early stopping looks at the test file. With its files away: tests/experiments/test_run."""
    events: list[str] = []
    opened = Table.part

    def part(self: Table, which: str) -> Any:
        events.append(which)
        return opened(self, which)

    def noted(trained: Any) -> Any:
        def fit(*arguments: Any, **options: Any) -> Any:
            model = trained(*arguments, **options)
            events.append("trained")
            return model

        return fit

    monkeypatch.setattr(Table, "part", part)
    for trainer in (Trainer, Boosting):
        monkeypatch.setattr(trainer, "run", noted(trainer.run))
    train(MODELS[name], table, tmp_path / "run")
    assert "test" not in events[: events.index("trained")] and "test" in events[events.index("trained") :]


@every_network
@pytest.mark.parametrize("head", ["chain", "independent"])
def test_metaheac_probabilities_reach_from_0_to_1(name: str, head: str) -> None:
    """There they are capped at .2."""
    model = build(small(name, head=head), FUNNELS["chain"])
    for bias in (-100, 100):
        with torch.no_grad():
            model.get_parameter("output.bias").fill_(bias)
        p = model(draw_batch(20)).log_p.exp()
        assert torch.all(p > 1 - 1e-12) if bias > 0 else torch.all(p < 1e-12)


def test_deepctr_torch_ple_has_as_many_experts_as_it_is_told() -> None:
    """There shared experts are as many as specific ones. 4 of each step and 3 shared ones, on an x of 16."""
    settings = {"expert": (8, 6), "tower": (5,), "tower_dropout": (), "experts_per_step": 4, "shared_experts": 3}
    model = PLE.from_dict(settings).build(PLAIN, FUNNELS["chain"])
    experts = (2 * 4 + 3) * (17 * 8 + 9 * 6)
    gates = 2 * 17 * (4 + 3)
    towers = 2 * (7 * 5 + 6)
    assert sum(p.numel() for p in model.parameters()) == (5 + 7) * 5 + experts + gates + towers


@every_network
def test_deepctr_torch_a_batch_of_one_row_works(name: str) -> None:
    """There a bare squeeze takes the row away."""
    settings = {"experts_per_step": 4, "shared_experts": 3} if name == "ple" else {}
    model, batch = (
        build(small(name, pooling=POOLING, **settings), FUNNELS["tree"], LISTED),
        draw_batch(3, inputs=LISTED),
    )
    for found, expected in zip(model(batch.slice(0, 1)), model(batch), strict=True):
        assert found.shape == (1, 4)
        torch.testing.assert_close(found, expected[:1])


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_fuxictr_the_shared_part_of_ple_sees_all_experts(levels: int) -> None:
    """There its gate sees shared experts alone. An own expert of one step reaches the other by the shared part alone,
    of the next level."""
    settings = small("ple", levels=levels, expert=[8, 6], tower=[6, 6])
    model, batch = build(settings, FUNNELS["parallel"]), draw_batch(20)
    before = model(batch).log_p
    first = "trunk.levels.0." if levels > 1 else "trunk."
    with torch.no_grad():
        model.get_parameter(first + "experts.layers.1.bias")[0] += 1  # of step 0's own expert
    own, other = (model(batch).log_p != before).any(0).tolist()
    assert own and other == (levels > 1)


def test_aitm_the_calibrator_does_not_grow_with_the_batch() -> None:
    """There it is summed over the batch. Its value, by hand: tests/models/test_objectives."""
    model = build(small("aitm", calibrator=1.0), FUNNELS["chain"])
    with torch.no_grad():
        model.get_parameter("output.bias")[0] -= 4  # conversions are likelier than clicks
    batch = labelled(draw_batch(8), 2)
    threefold = batch.take(torch.arange(8).repeat(3))
    p = model(batch).log_p.exp()
    assert (p[:, 1] > p[:, 0]).any()
    parameters = list(model.groups(["attention", "towers"]).values())
    found = zip(step(model, batch, parameters).parameters, step(model, threefold, parameters).parameters, strict=True)
    for once, thrice in found:
        torch.testing.assert_close(thrice, once)


@pytest.mark.parametrize("shape", ["chain", "tree"])
def test_tenrec_esmm_multiplies_probabilities(shape: str) -> None:
    """There it multiplies logits."""
    funnel = FUNNELS[shape]
    model, batch = build(small("esmm"), funnel, dtype=torch.float32), draw_batch(50, dtype=torch.float32)
    logits = model.logits(model.embedding(batch)).detach().double().numpy()
    given = 1 / (1 + np.exp(-logits))
    p = model(batch).log_p.detach().double().exp().numpy()
    for t, parent in enumerate(funnel.parents):
        expected = given[:, t] * (p[:, parent] if parent >= 0 else 1)
        np.testing.assert_allclose(p[:, t], expected, rtol=1e-6)


def test_easyrec_the_auc_of_scores_near_2e_4_is_exact() -> None:
    """There it is taken at 200 thresholds, which see no difference. More: tests/evaluation/test_auc."""
    rng = np.random.default_rng(0)
    labels = (rng.random(3000) < 0.02).astype(np.uint8)
    scores = 2e-4 + 1e-5 * (rng.normal(size=3000) + labels)
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None, :]
    assert auc(labels, scores) == pytest.approx(
        ((positive > negative) + 0.5 * (positive == negative)).mean(), abs=1e-14
    )
    assert auc(labels, scores) > 0.7 and len(np.unique(np.digitize(scores, np.linspace(0, 1, 200)))) == 1


def test_most_predictions_of_the_test_part_give_the_numbers_of_evaluate(
    finished: Run, table: Table, tmp_path: Path
) -> None:
    """Elsewhere training's log and prediction take different ways. On raw rows: tests/experiments/test_evaluate."""
    predict_file(finished.folder / "bundle", table.folder, tmp_path / "predictions.parquet")
    predicted, rows = pq.read_table(tmp_path / "predictions.parquet"), table.part("test")
    assert rows.labels is not None and rows.weight is not None
    found = evaluate(finished.bundle, table)["outputs"]
    results = finished.results["test"]
    assert found == {name: {k: v for k, v in own.items() if k != "baselines"} for name, own in results.items()}
    for output in table.schema.funnel.outputs:
        counted = sample_space(output, rows.labels)
        labels, p = rows.labels[counted, output.step], predicted[output.column].to_numpy()[counted]
        weight, figures = rows.weight[counted], found[output.name]
        assert figures["auc"]["estimate"] == auc(labels, p, weight)
        assert figures["calibration_error"] == expected_calibration_error(labels, p, weight)
        assert figures["observed_over_predicted"] == observed_over_predicted(labels, p, weight)
        loss = -np.where(labels == 1, np.log(p), np.log1p(-p))
        assert figures["log_loss"] == pytest.approx(np.average(loss, weights=weight), rel=1e-6)


def test_most_no_pickle_is_written(finished: Run) -> None:
    """Elsewhere whole modules are pickled. That nothing in src can: tests/test_architecture."""
    files = [path for path in finished.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".parquet", ".safetensors", ".txt"}
    for path in files:
        head = path.read_bytes()[:2]
        assert head[:1] != b"\x80" and head != b"PK", f"{path} is a pickle or an archive of them"
