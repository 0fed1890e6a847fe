"""Vectors from Parquet: which ids they are of, and every file that cannot be right."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.data.vectors import read_vectors
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError

ITEMS = Vocabulary(pa.array(["a", "b", "c"]))
ROWS: dict[str, Any] = {"item": ["c", "z", "a"], "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]]}


def written(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({**ROWS, **columns}), folder / "v.parquet")
    return folder / "v.parquet"


def test_known_values_get_their_vectors_and_others_are_passed_over(tmp_path: Path) -> None:
    ids, values = read_vectors(written(tmp_path), ITEMS, "item", 2)
    assert ids.tolist() == [3, 1] and values.tolist() == [[1, 2], [5, 6.5]]
    assert values.dtype == np.float32


@pytest.mark.parametrize("kind", [pa.list_(pa.float64(), 2), pa.large_list(pa.float32()), pa.list_(pa.int16())])
def test_any_list_of_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    ids, values = read_vectors(written(tmp_path, vector=pa.array([[1, 2], [3, 4], [5, 6]], kind)), ITEMS, "item", 2)
    assert ids.tolist() == [3, 1] and values.tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"vector": [[1.0], [2.0], [3.0]]},
            r"vectors have 1 numbers, embeddings of 'item' 2; set embedding_dims = {item",
        ),
        ({"vector": [[1.0, 2.0], [3.0], [4.0, 5.0]]}, "and give all the same length"),
        ({"vector": [[1.0, 2.0], None, [4.0, 5.0]]}, "vectors have 0 numbers"),
        ({"vector": [[1.0, float("nan")]] * 3}, "numbers that are not finite"),
        ({"vector": [[1.0, None]] * 3}, "with 3 nulls; give lists of numbers"),
        ({"vector": [["x", "y"]] * 3}, "holds string"),
        ({"vector": [1.0, 2.0, 3.0]}, "a list per row is needed"),
        ({"item": ["c", "c", "a"]}, "has a value of 'item' twice"),
        ({"item": ["x", "y", "z"]}, "has no value of the vocabulary 'item' among its 3"),
        ({"item": [1.5, 2.5, 3.5]}, "its vocabulary was made of strings"),
    ],
)
def test_faults(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_vectors(written(tmp_path, **columns), ITEMS, "item", 2)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_vectors(tmp_path / "none.parquet", ITEMS, "item", 2)
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_vectors(tmp_path / "text.parquet", ITEMS, "item", 2)
    pq.write_table(pa.table({"items": ["a"], "vector": [[1.0, 2.0]]}), tmp_path / "v.parquet")
    with pytest.raises(InputError, match="no column 'item', and needs 'item' and 'vector'; did you mean 'items'"):
        read_vectors(tmp_path / "v.parquet", ITEMS, "item", 2)
