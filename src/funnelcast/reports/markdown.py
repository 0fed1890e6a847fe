"""A report in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from funnelcast.reports.content import Content, Model


def markdown(content: Content) -> str:
    """The page of `report.md`."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: Content) -> Iterator[str]:
    yield f"# {content.title}\n"
    yield f"{content.summary}\n"
    protocol = content.protocol
    if protocol:
        text = f": {protocol['text']}" if protocol.get("text") else f" of {protocol['name']}"
        yield f"Protocol {protocol['fingerprint']}{text}.\n"
    yield "## What it says"
    if content.headline:
        yield f"\n{content.headline}"
    for output, sentences in content.conclusions:
        yield f"\n**{output or 'Limits'}**\n"
        yield from (f"- {sentence}" for sentence in sentences)
    for table in [*content.tables, *([content.published] if content.published else [])]:
        yield f"\n## {table.title}\n"
        yield from table.markdown()
    yield ""
    yield from (f"- {remark}" for remark in content.remarks)
    for picture in content.pictures:
        yield f"\n![{picture.title}]({picture.file})\n\n{picture.caption}"
    for model in content.models:
        yield from _model(model)
    yield "\n## How to make it again\n"
    yield from (f"    {command}" for command in content.commands)


def _model(model: Model) -> Iterator[str]:
    if model.pictures or model.tables:
        yield f"\n## {model.name}"
    for picture in model.pictures:
        yield f"\n![{picture.title}]({picture.file})\n\n{picture.caption}"
    for table in model.tables:
        yield f"\n### {table.title}\n"
        yield from table.markdown()
