"""What rows are grouped by: kept columns with and without nulls."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.data.table import Table
from funnelcast.experiments.groups import group_by
from tests import tiny


@pytest.mark.parametrize("column", [[7, None, 0, 7], ["null", None, "", "null"], [None] * 4])
def test_a_null_is_no_group(tmp_path_factory: pytest.TempPathFactory, column: list[Any]) -> None:
    table: Table = tiny.write_table(tmp_path_factory.mktemp("groups") / "table")
    side = pa.table({"shop": pa.chunked_array([column[:3], column[3:]], pa.array(column).type)})
    groups = group_by(table, table.part("test").take(np.arange(4)), side, "shop")
    assert groups.is_known.tolist() == [value is not None for value in column]
    known = [value for value in column if value is not None]
    assert groups.keys[groups.is_known].tolist() == known
    assert groups.keys.dtype.kind == ("i" if 7 in column else "O")
