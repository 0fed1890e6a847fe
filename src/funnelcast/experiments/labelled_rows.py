"""X and y, as scikit-learn has them, as the rows and the schema of a log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.errors import EstimatorError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.frames import as_arrow

WEIGHT: Final = "sample weight"
_STEP = re.compile(r"[A-Za-z_]\w*")
_FEATURE = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


@dataclass(frozen=True)
class Labels:
    """What y says."""

    funnel: Funnel
    values: NDArray[np.float64]
    """(N, T) by the funnel's steps: 1 for reached, 0 for not, NaN for unobserved."""
    classes: list[NDArray[Any]]
    """(2,) per step: what y has for not reached, and for reached."""
    is_single: bool
    """Whether y has one dimension."""

    @property
    def depth(self) -> NDArray[np.float64]:
        """(N,) how many steps a row reached."""
        return np.asarray(np.nansum(self.values, axis=1))


def labels_of(y: Any, funnel: Funnel | str | None, classes: NDArray[Any] | None = None) -> Labels:
    """Read labels: a DataFrame with a column per step, an array (N, T) in the funnel's order, or one step as (N,).

    `funnel`: none for a chain of y's columns; of None or a text, rows must agree with it. `classes`: (2,) of one step;
    by default the values that y has, in ascending order. Raises EstimatorError.
    """
    if hasattr(y, "to_pandas"):
        y = y.to_pandas()
    given = np.asarray(y)
    if given.ndim == 2 and given.shape[1] == 1:
        y, given = (y.iloc[:, 0] if hasattr(y, "iloc") else given[:, 0]), given[:, 0]
    if given.ndim == 1:
        own = _funnel(funnel, [_name(y, "label")])
        found = _two_classes(given) if classes is None else classes
        unknown = set(given.tolist()) - set(found.tolist())
        if unknown:
            raise EstimatorError(f"y has {sorted(unknown)[:3]}, which are not of the classes {found.tolist()}")
        return Labels(own, (given == found[1]).astype(np.float64)[:, None], [found], True)
    if given.ndim != 2 or not given.shape[1]:
        raise EstimatorError(f"y has the shape {given.shape}; give (rows,) for one step, or (rows, steps)")
    names = list(map(str, y.columns)) if hasattr(y, "columns") else None
    own = _funnel(funnel, names or [f"step_{i + 1}" for i in range(given.shape[1])])
    values = _zeros_and_ones(_in_order(y, names, own), own)
    if funnel is None or isinstance(funnel, str):
        _check_agreement(values, own)
    return Labels(own, values, [np.array([0, 1])] * len(own.names), False)


def _name(y: Any, default: str) -> str:
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and _STEP.fullmatch(name) else default


def _two_classes(values: NDArray[Any]) -> NDArray[Any]:
    found = np.unique(values)
    if len(found) < 2:
        raise EstimatorError(f"y has one class only, {found.tolist()}; rows of two classes are needed")
    if len(found) > 2:
        raise EstimatorError(
            "Only binary classification is supported. The type of the target is multiclass: a step is reached or not, "
            f"and y has {len(found)} classes, {found[:4].tolist()} …; give a column of 0 and 1 for each step"
        )
    return np.asarray(found)


def _funnel(given: Funnel | str | None, names: Sequence[str]) -> Funnel:
    if isinstance(given, Funnel):
        return given
    if given is None:
        bad = [name for name in names if not _STEP.fullmatch(name)]
        if bad:
            raise EstimatorError(f"{bad[0]!r} cannot be the name of a step; use letters, digits and underscores")
        given = "; ".join([names[0], *(f"{name} after {parent}" for parent, name in pairwise(names))])
    return Funnel.from_dict({"steps": given}, "funnel")


def _in_order(y: Any, names: list[str] | None, funnel: Funnel) -> Any:
    """The labels in the funnel's order, by name where they have names."""
    columns = funnel.label_columns
    if names is None:
        found = np.asarray(y)
        if found.shape[1] != len(columns):
            raise EstimatorError(
                f"y has {found.shape[1]} columns, and the funnel {len(columns)} steps, {', '.join(funnel.names)}; give "
                "one column for each in this order"
            )
        return found
    if sorted(names) != sorted(columns):
        raise EstimatorError(f"y has the columns {', '.join(names)}, and the funnel needs {', '.join(columns)}")
    return y.set_axis(names, axis=1)[list(columns)]


def _zeros_and_ones(given: Any, funnel: Funnel) -> NDArray[np.float64]:
    try:
        values = pd.DataFrame(given).apply(pd.to_numeric).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise EstimatorError(f"y must hold 0, 1, or nothing where a step is not observed: {error}") from None
    wrong = ~np.isin(values, (0, 1)) & ~np.isnan(values)
    if wrong.any():
        row, step = np.argwhere(wrong)[0]
        raise EstimatorError(
            f"y has {values[row, step]:g} for {funnel.names[step]} in row {row}; give 1 where the step was reached, 0 "
            "where not, and nothing where that is not known"
        )
    return np.asarray(values)


def _check_agreement(values: NDArray[np.float64], funnel: Funnel) -> None:
    for step, parent in enumerate(funnel.parents):
        broken = int(((values[:, step] == 1) & (values[:, parent] == 0)).sum()) if parent >= 0 else 0
        if broken:
            own, above = funnel.names[step], funnel.names[parent]
            raise EstimatorError(
                f"{broken} rows have {own} = 1 and {above} = 0, and {own} comes after {above}; correct them, give a "
                f"funnel such as '{above}; {own}' if the steps do not depend on each other, or a "
                "funnelcast.Funnel whose on_broken is 'drop' or 'imply'"
            )


def log_of(frame: pd.DataFrame, labels: Labels, weight: NDArray[np.float64] | None) -> pa.Table:
    """Rows with their features, then the labels by the names of steps, then the weight. Raises EstimatorError where
    these are columns of X."""
    own = {
        column: pa.array(labels.values[:, i], from_pandas=True) for i, column in enumerate(labels.funnel.label_columns)
    }
    if weight is not None:
        own[WEIGHT] = pa.array(weight)
    table = as_arrow(frame)
    for name, values in own.items():
        if name in table.column_names:
            raise EstimatorError(f"{name!r} is a column of X and of the labels; rename one, as labels are no features")
        table = table.append_column(name, values)
    return table


def schema_of(frame: pd.DataFrame, labels: Labels, features: Mapping[str, Any], *, has_weight: bool) -> Schema:
    """The schema of such a log: `features` as they are declared, the others by their types. Raises EstimatorError, and
    ConfigError for what is declared wrongly."""
    unknown = [name for name in features if name not in frame.columns]
    if unknown:
        raise EstimatorError(f"features has {unknown[0]!r}, which is no column of X: {', '.join(frame.columns[:20])}")
    declared = {}
    for i, name in enumerate(frame.columns):
        feature = features[name] if name in features else kind_of(frame[name], name)
        is_name = _FEATURE.fullmatch(name) is not None
        declared[name if is_name else f"x{i}"] = feature if is_name else {"kind": feature, "column": name}
    settings = {
        "funnel": labels.funnel.model_dump(mode="json"),
        "features": declared,
        "split": {"dev": 0.0, "test": 0.0},
    }
    return Schema.from_dict(settings | ({"weight": WEIGHT} if has_weight else {}), "features")


def kind_of(values: pd.Series[Any], name: str) -> str:
    """`numeric` for numbers and flags, `multi` for lists, `categorical` for texts and categories. Raises EstimatorError
    for others."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return "numeric"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "categorical"
    first = next((value for value in values if value is not None and value is not pd.NA), "")
    if isinstance(first, list | tuple | np.ndarray):
        return "multi"
    if isinstance(first, str | int | float):
        return "categorical"
    raise EstimatorError(f"column {name!r} holds {first!r}; give numbers, texts, categories, or lists of them")
