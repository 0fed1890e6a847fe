"""Golden rows, by which a bundle that says something else than when it was saved is found."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from funnelcast.errors import BundleError
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.golden import FILE, ROWS, check_golden
from funnelcast.serving.made_rows import made_rows
from tests.serving.adapted import network
from tests.serving.test_bundle import bundle_of


def test_a_saved_bundle_agrees_with_its_golden_rows(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    check_golden(loaded, tmp_path / "bundle")
    rows = pq.read_table(tmp_path / "bundle" / FILE)
    assert len(rows) == ROWS and rows["user"].null_count and not set(rows["item"].to_pylist()) <= {*range(20)}


def test_other_weights_do_not_agree(tmp_path: Path) -> None:
    bundle = bundle_of()
    bundle.save(tmp_path / "bundle")
    model = network(bundle)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    with pytest.raises(BundleError, match=r"golden row \d+ p_\w+ = .* gave it .* when it was saved"):
        check_golden(replace(bundle, model=model), tmp_path / "bundle")


def test_a_bundle_of_an_old_version_has_none(tmp_path: Path) -> None:
    check_golden(bundle_of(), tmp_path)


def test_made_rows_are_the_same_for_a_seed() -> None:
    encoder = bundle_of().encoder
    assert made_rows(encoder, 9, 1).equals(made_rows(encoder, 9, 1))
    assert not made_rows(encoder, 9, 1).equals(made_rows(encoder, 9, 2))
