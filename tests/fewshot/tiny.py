"""Small networks on the simulator of campaigns, its held-out campaigns as tasks, and rows of its training campaigns."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from funnelcast.data.columns import Columns
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.experiments.experiment import Experiment
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.training.adapting import Starting
from funnelcast.training.losses import LossConfig
from proofs.simulators.campaign_tasks import CampaignTasks
from proofs.simulators.campaigns import CampaignSimulator, Differences, Ints, encoder

FUNNEL = Funnel.parse("click; conversion after click")
CLICK, CONVERSION = (TaskOutput.of(FUNNEL, name) for name in ("click", "conversion_given_click"))
MODEL: dict[str, Any] = {
    "name": "shared_bottom", "head": "chain", "embedding_dim": 2, "expert": [6], "tower": [4], "tower_dropout": [],
}  # fmt: skip


@cache
def simulator() -> CampaignSimulator:
    """With differences that few rows can tell."""
    return CampaignSimulator(0, Differences(offset=1.5, taste=0.5))


def tasks(target: TaskOutput, number: int = 4, support: int = 40, query: int = 60) -> CampaignTasks:
    return CampaignTasks(simulator(), target, number, support, query)


@cache
def training_rows() -> tuple[Columns, Ints]:
    """Rows, and their campaigns."""
    campaign = np.arange(6000) % 60
    drawn = simulator().sample(simulator().draw_campaigns(60)[campaign], np.random.default_rng(0))
    return drawn.columns, campaign


def write_table(folder: Path, rows: int = 1200) -> Table:
    """Campaigns 1 to 20 in train, and to 21 in dev; test rows are of 15 to 26 and of 0. Some rows are of none."""
    own, rng = simulator().draw_campaigns(28), np.random.default_rng(1)
    with new_folder(folder) as partial, TableWriter(partial) as writer:
        for name, (low, high) in {"train": (1, 21), "dev": (1, 22), "test": (15, 28)}.items():
            campaign = rng.integers(low, high, rows)
            campaign[campaign == 27] = 0
            none = (campaign == 20) if name == "train" else (campaign == 15)
            beside = pa.table({"campaign": pa.array(campaign, mask=none)})
            writer.part(name).append(simulator().sample(own[campaign], rng).columns, beside)
        writer.finish(encoder(), {})
    return Table.open(folder)


def bundle(seed: int = 0, **changes: Any) -> Bundle:
    """An untrained network that predicts about the simulator's rates."""
    experiment = Experiment.from_dict({"model": MODEL | changes})
    assert isinstance(experiment.model, NetworkRecipe)
    model = experiment.model.fresh(encoder(), seed)
    start_at_rates(model)
    starting = Starting(LossConfig(), [1.0, 1.0], None, [0.0, 0.0], {})
    settings = experiment.model_dump(mode="json")
    return Bundle(model, encoder(), settings, {}, [0.04, 0.002], {}, starting)


@torch.no_grad()
def start_at_rates(model: FunnelModel) -> None:
    assert model.output.bias is not None
    model.output.bias.fill_(-3.0)


def network(of: Bundle) -> FunnelModel:
    assert isinstance(of.model, FunnelModel)
    return of.model
