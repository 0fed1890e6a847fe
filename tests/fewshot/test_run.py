"""The protocol on a table's campaigns, by Python and by the command line: the same figures, and files of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from funnelcast.data.table import Table
from funnelcast.errors import ComparisonError, FunnelcastError
from funnelcast.fewshot.protocol import measure
from funnelcast.fewshot.report import report
from funnelcast.fewshot.run import few_shot
from funnelcast.fewshot.standard_methods import META, META_ADAPTED, PLAIN, methods_of, standard_methods
from funnelcast.fewshot.tasks import unseen_tasks
from funnelcast.training.adapting import Adapting
from harness.calls import call
from proofs.simulators.campaigns import encoder
from tests.fewshot.tiny import CLICK, CONVERSION, bundle, write_table

FEW = Adapting(steps=2, folds=2)
SIZES = (0, 20)
FILES = ["few-shot.json", "few-shot.png", "few-shot.svg"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return write_table(tmp_path_factory.mktemp("few") / "table")


@pytest.mark.slow
def test_it_is_the_protocol_on_the_campaigns_of_test_rows(table: Table, tmp_path: Path) -> None:
    out = tmp_path / "curves"
    found = few_shot(bundle(1), table, out, by="campaign", meta=bundle(0), sizes=SIZES, query=20, config=FEW)
    campaign = table.side("train")["campaign"]
    known = np.flatnonzero(campaign.is_valid())
    train = table.part("train").take(known), campaign.drop_null().to_numpy()
    assert 0 < len(known) < len(campaign)
    methods = standard_methods(bundle(0), bundle(1), CLICK, *train, FEW)
    expected = report(measure(unseen_tasks(table, "campaign", CLICK, 20, 20), methods, CLICK, SIZES))
    assert found == {"over": PLAIN, "sizes_of": "rows", **expected} and {META, META_ADAPTED} < set(found["methods"])
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert json.loads((out / "few-shot.json").read_text()) == found


@pytest.mark.slow
def test_one_network_alone_is_neither_plain_nor_meta_trained(table: Table, tmp_path: Path) -> None:
    found = few_shot(
        bundle(1), table, tmp_path / "curves", by="campaign", output="conversion_given_click", sizes=[2, 0, 2], query=1
    )
    assert found["over"] == "not adapted" and found["sizes"] == [0, 2] and found["output"] == CONVERSION.output.name
    own = methods_of(bundle(1), CONVERSION, table.part("train"), np.zeros(table.rows("train"), np.int64))
    assert list(found["methods"]) == [name.removeprefix("plain, ") for name in own]
    assert found["sizes_of"] == "rows that reached click"


@pytest.mark.slow
def test_the_command_says_what_python_returns(table: Table, tmp_path: Path) -> None:
    bundle(1).save(tmp_path / "bundle")
    given = (tmp_path / "bundle", table.folder, "--by", "campaign", "--size", 0, "--size", 20, "--query", 20)
    answer = call("few-shot", *given, "--out", tmp_path / "a", "--json")
    assert (answer.code, answer.trace, answer.warned) == (0, "", ()), answer
    found = few_shot(tmp_path / "bundle", table, tmp_path / "b", by="campaign", sizes=SIZES, query=20)
    assert json.loads(answer.out) == found
    shown = call("few-shot", *given, "--out", tmp_path / "a", "--replace").out
    assert "click: log-loss saved over 'not adapted', thousandths of a nat a row, 6 tasks" in shown
    assert "support, rows " in shown
    gain = found["gain_over"]["offset alone"]["not adapted"][1]
    assert f"{1e3 * gain['estimate']:+.2f} [{1e3 * gain['low']:+.2f}, {1e3 * gain['high']:+.2f}]" in shown
    assert f"Wrote {tmp_path / 'a'}: few-shot.json" in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": [0]}, "tell nothing; give sizes above 0"),
        ({"sizes": []}, "tell nothing; give sizes above 0"),
        ({"sizes": [-1, 4]}, "tell nothing; give sizes above 0"),
        ({"query": 0}, "tell nothing; give sizes above 0, and 1 query row or more"),
        ({"sizes": [2000]}, "0 have 2,000 \\+ 100 rows that count for click, and 4 are needed"),
        ({"output": "buy"}, "'buy' is no output"),
        ({"by": "shop"}, "no column 'shop'"),
        ({"out": "taken"}, "exists already"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    table: Table, tmp_path: Path, given: dict[str, object], message: str
) -> None:
    """And leaves nothing."""
    (tmp_path / "taken").mkdir()
    arguments = {"by": "campaign", "out": "curves"} | given
    out = tmp_path / str(arguments.pop("out"))
    with pytest.raises(FunnelcastError, match=message):
        few_shot(bundle(), table, out, **arguments)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_networks_of_other_ids_are_refused(table: Table, tmp_path: Path) -> None:
    other = replace(bundle(), encoder=encoder(5))
    with pytest.raises(ComparisonError, match="not the same features, ids and funnel"):
        few_shot(bundle(), table, tmp_path / "curves", by="campaign", meta=other, sizes=SIZES, query=20)
    boosters = replace(bundle(), starting=None)
    with pytest.raises(ComparisonError, match="which cannot adapt"):
        few_shot(boosters, table, tmp_path / "curves", by="campaign", sizes=SIZES, query=20)
