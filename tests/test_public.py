"""The public surface of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import funnelcast


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(funnelcast.__all__) == sorted(funnelcast._HOMES)
    for name in funnelcast.__all__:
        assert getattr(funnelcast, name).__module__ == f"funnelcast.{funnelcast._HOMES[name]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predictor'"):
        _ = funnelcast.predictor


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, funnelcast; print(sorted({'torch', 'numba', 'pyarrow', 'ibis', 'pandas'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
