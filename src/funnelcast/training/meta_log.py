"""What the log says of meta-learning: whether adapting does anything, and what."""

from __future__ import annotations

from typing import Any, Final

NIL: Final = 1e-4
"""Share of a loss below which a gain is none."""


def meta_line(sums: dict[str, list[float]], steps: tuple[str, ...]) -> dict[str, Any]:
    """Means of an epoch's meta steps: losses of query rows before and after adapting, and what that did."""

    def mean(name: str) -> list[float]:
        return [value / sums["watched"][0] for value in sums[name]]

    before, after = mean("before"), mean("after")
    return {
        "tasks": round(sums["tasks"][0]),
        "support_without": {step: round(n) for step, n in zip(steps, sums["lacking"], strict=True)},
        "query_loss_before": dict(zip(steps, before, strict=True)),
        "query_loss_after": dict(zip(steps, after, strict=True)),
        "gain": dict(zip(steps, (1 - a / b if b else 0.0 for b, a in zip(before, after, strict=True)), strict=True)),
        "through_inner_step": mean("through")[0],
    }


def adapting(meta: dict[str, Any] | None) -> str:
    """The same in words."""
    if meta is None:
        return ""
    gains, through = meta["gain"], meta["through_inner_step"]
    if max(map(abs, gains.values())) < NIL and through < 10 * NIL:
        return "; adapting changes nothing at this inner learning_rate: this is plain training on the query rows"
    text = ", ".join(f"{step} {gain:+.2%}" for step, gain in gains.items())
    return f"; adapting gains {text}, {through:.1%} of the gradient come through it"
