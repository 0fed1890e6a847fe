"""A benchmark's results as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from funnelcast.experiments.formatting import NONE, interval, mean_and_std_text, number, p_text, short
from funnelcast.experiments.published import Figure, Published

Row = Sequence[str]


def markdown(results: Mapping[str, Any], published: Published | None) -> str:
    """The page of `results.md`."""
    return "\n".join(_lines(results, published)) + "\n"


def tables(results: Mapping[str, Any]) -> Iterator[tuple[Row, list[Row]]]:
    """AUCs with gains, then the other figures, then costs: head and rows."""
    models, base = results["models"], results["reference"]
    outputs = list(next((m["figures"] for m in models.values() if m["figures"]), {}))
    head = ["model", *(title for o in outputs for title in (f"AUC {o}", f"gain over {base}", "p"))]
    yield head, [[name, *_aucs(model, outputs, name == base)] for name, model in models.items()]
    measures = {
        "log_loss": ("log-loss", 5),
        "calibration_error": ("cal.error", 5),
        "observed_over_predicted": ("obs/pred", 2),
    }
    head = ["model", *(f"{title} {o}" for o in outputs for title, _ in measures.values())]
    yield (
        head,
        [
            [
                name,
                *(
                    mean_and_std_text(figure(model, o, key), digits)
                    for o in outputs
                    for key, (_, digits) in measures.items()
                ),
            ]
            for name, model in models.items()
        ],
    )
    if results["true_model"]:
        head = ["share of the oracle's AUC gain", *outputs]
        shares = {
            name: [share_of_oracle_gain(model, o, results["true_model"]) for o in outputs]
            for name, model in models.items()
        }
        yield head, [[name, *(short(share, 3) for share in own)] for name, own in shares.items()]
    head = ["model", "seeds", "parameters", "epochs", "training, rows/s", "peak MB", "s a run"]
    yield head, [[name, *_costs(model)] for name, model in models.items()]


def figure(model: Mapping[str, Any], output: str, name: str) -> Mapping[str, Any] | None:
    """Mean, deviation and values of a figure; none where no run has it."""
    found: Mapping[str, Any] | None = model["figures"].get(output, {}).get(name)
    return found


def warnings(results: Mapping[str, Any]) -> list[str]:
    """A sentence for each model and output that has collapsed, of its first seed that has."""
    return [
        f"WARNING: {name}, seed {next(iter(texts))}: {next(iter(texts.values()))}"
        for name, model in results["models"].items()
        for texts in model.get("warnings", {}).values()
    ]


def _lines(results: Mapping[str, Any], published: Published | None) -> Iterator[str]:
    yield f"# {results['title']}\n"
    protocol = results["protocol"]
    yield f"Protocol {protocol['fingerprint']}: {protocol['text']}.\n" if protocol else "No run is finished.\n"
    yield from (f"{text}\n" for text in warnings(results))
    for head, rows in tables(results):
        yield from table_lines(head, rows)
        yield ""
    truth = results["truth"]["rows_and_seeds" if results["splits"] is None else "splits"]
    yield f"Gains: {truth}, with 95 % intervals; p corrected over the models (Holm)."
    yield from _power(results)
    yield from _transfer(results["control"])
    for name, model in results["models"].items():
        for seed, why in model["failed"].items():
            yield f"\n**{name}, seed {seed} failed:** {why.splitlines()[-1]}"
    if published is not None:
        yield from _published_rows(results, published)


def table_lines(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    """A table's lines."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _aucs(model: Mapping[str, Any], outputs: Sequence[str], is_base: bool) -> Iterator[str]:
    for output in outputs:
        yield mean_and_std_text(figure(model, output, "auc"))
        gain = model["gains"].get(output)
        yield "" if is_base else interval(gain) if gain else NONE
        yield "" if is_base else p_text(gain["p_adjusted"]) if gain else NONE


def share_of_oracle_gain(model: Mapping[str, Any], output: str, truth: Mapping[str, Any]) -> float | None:
    """Of AUC - .5 that the true model has, in the mean over the seeds; none where either is not known."""
    found, best = figure(model, output, "auc"), truth[output]["auc"]["estimate"]
    if found is None or found["mean"] is None or best is None or best <= 0.5:
        return None
    return float((found["mean"] - 0.5) / (best - 0.5))


def _costs(model: Mapping[str, Any]) -> Iterator[str]:
    cost = model["cost"]
    yield str(len(model["seeds"])) + (f", {len(model['failed'])} failed" if model["failed"] else "")
    for name, digits, scale in (
        ("parameters", 0, 1),
        ("epochs", 1, 1),
        ("rows_per_s", 0, 1),
        ("peak_bytes", 0, 1e6),
        ("seconds", 0, 1),
    ):
        yield number(cost[name]["mean"] if cost else None, digits, scale)


def _power(results: Mapping[str, Any]) -> Iterator[str]:
    """The smallest difference that the test rows and seeds can show, of the model that is known best."""
    smallest: dict[str, float] = {}
    for model in results["models"].values():
        for output, gain in model["gains"].items():
            if gain["smallest"] is not None:
                smallest[output] = min(gain["smallest"], smallest.get(output, 1.0))
    if smallest:
        differences = ", ".join(f"{short(value, 4)} of {output}" for output, value in smallest.items())
        yield f"A true difference under {differences} would be missed more often than one time in five."


def _transfer(control: Mapping[str, Any] | None) -> Iterator[str]:
    """Gains over networks that share nothing: what learning the steps together brings each of them."""
    if control is None or not control["gains"]:
        return
    outputs = list(next(iter(control["gains"].values())))
    yield f"\n## What sharing brings: AUC over {control['model']}, by step\n"
    rows = [[name, *(interval(gains[o]) for o in outputs)] for name, gains in control["gains"].items()]
    yield from table_lines(["model", *outputs], rows)


def _published_rows(results: Mapping[str, Any], published: Published) -> Iterator[str]:
    """Published figures beside ours."""
    protocol, rows = results["protocol"].get("name", ""), results["test_rows"]
    yield "\n## Beside what is published\n"
    found, marks = list[Row](), dict[str, str]()
    for name, model in results["models"].items():
        for output in model["figures"]:
            every = list(published.figures_of(name, output))
            papers = [each for each in every if each.source.kind == "paper"]
            others = [each for each in every if each.source.kind != "paper"][:1]
            if every:
                runs = (
                    "; ".join(_figure_text(f, published, protocol, rows, marks) for f in group) or NONE
                    for group in (papers, others)
                )
                found.append([name, output, mean_and_std_text(figure(model, output, "auc")), *runs])
    yield from table_lines(["model", "output", "ours", "papers", "best re-implementation"], found)
    yield ""
    for name, why in marks.items():
        yield f"- † {name}: {why}"
    for source in published.sources:
        for note in (*source.broken_gains(), *source.notes):
            yield f"- {source.name}: {note}"


def _figure_text(figure: Figure, published: Published, protocol: str, rows: int, marks: dict[str, str]) -> str:
    text = short(figure.value, 4) + (f" ± {short(figure.std, 4)}" if figure.std is not None else "")
    if published.is_comparable(figure.source, protocol, rows):
        return f"{text} ({figure.source.name})"
    marks[figure.source.name] = (
        f"another protocol or other rows than ours: {figure.source.protocol} ({figure.source.place})"
    )
    return f"{text} † ({figure.source.name})"
