"""What adapting changed in a network: its parameters and rows of new ids, as differences to the base."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from funnelcast.errors import DeltaError
from funnelcast.serving.delta_file import SUFFIX, Content, checksum, read_delta, write_delta
from funnelcast.training.added_statistics import Added

SMALL = 4096
"""Numbers of a tensor that is stored in full."""


@dataclass(frozen=True, eq=False)
class Delta:
    """An adapted network, next to its base. It is empty where adapting did not help, and `reason` says why."""

    base: str
    """Fingerprint of the bundle that it belongs to."""
    key: dict[str, str]
    """Column and value, as text, of the rows that it is for; {} for all rows."""
    rows: int
    """That were adapted to."""
    dropped: int
    """Rows besides that contradict the funnel."""
    positives: dict[str, int]
    """Rows that reached each step."""
    losses: list[float]
    """Held-out loss after 0, 1, … steps."""
    steps: int = 0
    """That were taken."""
    reason: str = ""
    """Why it is empty."""
    new_ids: dict[str, pa.Array] = field(default_factory=dict)
    """By vocabulary, the raw values that have rows of their own."""
    scale: float = 1.0
    """What every stored number is multiplied by; a power of 2."""
    changes: dict[str, Tensor] = field(default_factory=dict)
    """By parameter, what is added to the base's, over `scale`: float16, small tensors float32."""
    new_rows: dict[str, Tensor] = field(default_factory=dict)
    """float16 (U, E) by vocabulary: what is added to the base's row of unknown ids, over `scale`."""
    statistics: dict[str, Added] = field(default_factory=dict)
    """By category, what the rows add to the base's target statistics of values that it knows."""
    statistics_loss: float | None = None
    """Held-out loss after the steps with the statistics; none where these do not count."""

    @property
    def is_empty(self) -> bool:
        """Whether it is the base itself."""
        return not (self.changes or self.new_rows or self.statistics)

    @property
    def held_out_loss(self) -> float:
        """After what was taken."""
        return self.losses[self.steps] if self.statistics_loss is None else self.statistics_loss

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that it says, 12 hex digits; of a saved one the same."""
        return checksum(self._content())[:12]

    def with_changes(self, changes: Mapping[str, Tensor], new: Mapping[str, tuple[pa.Array, Tensor]]) -> Delta:
        """With differences of parameters, and by vocabulary values and rows; what is 0 is left out.

        float16 holds 11 bits of the largest differences, and of all down to 2^-28 of them: probabilities are those of
        float32 to 1e-4. That a bias was rounded shows in every row, so small tensors stay float32.
        """
        tensors = {name: change.cpu().float() for name, change in changes.items()}
        rows = {name: row.cpu().float() for name, (_, row) in new.items()}
        largest = max((float(t.abs().max()) for t in (*tensors.values(), *rows.values()) if t.numel()), default=0.0)
        scale = 2.0 ** (math.frexp(largest)[1] - 15) if largest else 1.0
        stored, ids, new_rows = {name: _stored(t / scale) for name, t in tensors.items()}, {}, {}
        for name, row in rows.items():
            half = (row / scale).half()
            moved = half.ne(0).any(1)
            if moved.any():
                ids[name], new_rows[name] = new[name][0].filter(pa.array(moved.numpy())), half[moved]
        kept = {name: change for name, change in stored.items() if change.ne(0).any()}
        return replace(self, scale=scale, changes=kept, new_ids=ids, new_rows=new_rows)

    def parameters(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The adapted network's, by name, as far as they differ from the base's."""
        return {name: base[name] + self.of_base(change, base[name]) for name, change in self.changes.items()}

    def of_base(self, stored: Tensor, like: Tensor) -> Tensor:
        """A stored difference in the base's type, where it is."""
        return stored.to(like.device, like.dtype) * self.scale

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write one file; it is whole or not there."""
        write_delta(Path(path), self._content(), replace=replace)

    def _content(self) -> Content:
        tensors = {f"change.{name}": t for name, t in self.changes.items()}
        tensors |= {f"new.{name}": t for name, t in self.new_rows.items()}
        for name, own in self.statistics.items():
            tensors |= {f"codes.{name}": own.codes, f"sums.{name}": own.sums}
        said = {name: getattr(self, name) for name in _SAID}
        if self.statistics:
            said["statistics_loss"] = self.statistics_loss
        return Content(said, self.new_ids, tensors)

    @classmethod
    def load(cls, path: Path | str) -> Delta:
        """Raises DeltaError where the file is no whole delta of this version."""
        said, new_ids, tensors = read_delta(Path(path))
        parts: dict[str, dict[str, Tensor]] = {"change": {}, "new": {}, "codes": {}, "sums": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = tensor
        statistics = {name: Added(codes, parts["sums"][name]) for name, codes in parts["codes"].items()}
        return cls(**said, new_ids=new_ids, changes=parts["change"], new_rows=parts["new"], statistics=statistics)


def _stored(change: Tensor) -> Tensor:
    return change if change.numel() <= SMALL else change.half()


_SAID = ("base", "key", "rows", "dropped", "positives", "losses", "steps", "reason", "scale")


def read_deltas(source: Delta | Path | str | Iterable[Delta | Path | str]) -> list[Delta]:
    """Deltas as they are, those of files, and all of folders. Raises DeltaError."""
    if isinstance(source, Delta):
        return [source]
    if not isinstance(source, (str, Path)):
        return [delta for each in source for delta in read_deltas(each)]
    path = Path(source)
    if not path.is_dir():
        return [Delta.load(path)]
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise DeltaError(f"{path} has no delta, no file that ends in {SUFFIX}; make some with: funnelcast adapt --by")
    return [Delta.load(file) for file in files]
