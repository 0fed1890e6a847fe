"""Matplotlib's SVG made small and safe to stand in a page: no style attributes, no ids that another figure has too,
colours by role, and a name for those who hear the page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from funnelcast.reports.drawing.style import INK, LIGHT, MUTED, PALE, SERIES, Paint, raw_svg

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
THEMED = {INK: "currentColor", MUTED: "var(--muted)", PALE: "var(--grid)"} | {
    marker: f"var(--series-{i})" for i, marker in enumerate(SERIES, 1)
}
"""Colours of a figure that stands in the page."""
TEXT = {"font-size": "8px", "text-anchor": "middle", "fill": INK}
FONT = re.compile(r"(?:(?P<style>italic|oblique) )?(?:(?P<weight>bold|\d+) )?(?P<size>[\d.]+)px .*")
NUMBER = re.compile(r"-?\d+\.\d{2,}")


@dataclass(frozen=True)
class Picture:
    """A figure with what to say about it."""

    stem: str
    """Its file's name."""
    title: str
    caption: str
    """What to look for."""
    svg: str
    """With colours that stand for roles."""
    is_first: bool = False
    """Of its kind, so that it begins a row."""

    @property
    def file(self) -> str:
        """Where it stands below the report's folder."""
        return f"figures/{self.stem}.svg"

    @property
    def inline(self) -> str:
        """For the page, whose theme it follows."""
        return _coloured(self.svg, THEMED)

    @property
    def standalone(self) -> str:
        """For a file, on white."""
        head, body = _coloured(self.svg, LIGHT).split(">", 1)
        return f'{head}>\n<rect width="100%" height="100%" fill="#ffffff"/>{body}\n'


def in_a_row(pictures: Iterable[Picture]) -> list[Picture]:
    """Those of one kind: the first one begins a row."""
    return [replace(each, is_first=i == 0) for i, each in enumerate(pictures)]


def picture(stem: str, title: str, caption: str, paint: Paint, height: float = 2.5) -> Picture:
    """The figure that `paint` puts on axes."""
    root = ElementTree.fromstring(raw_svg(paint, height))
    for node in list(root):
        if node.tag == f"{SVG}metadata":
            root.remove(node)
    for parent in root.iter():
        for node in [child for child in parent if child.tag == f"{SVG}style"]:
            parent.remove(node)
    for node in root.iter():
        _as_attributes(node)
    prefix = f"f{hashlib.sha256(stem.encode()).hexdigest()[:6]}"
    _own_ids(root, prefix)
    _flat(root)
    _name(root, prefix, title)
    ElementTree.register_namespace("", SVG[1:-1])
    return Picture(stem, title, caption, re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")))


def _as_attributes(node: Element) -> None:
    """What a style says as attributes, which a strict page allows too; numbers to a tenth of a point."""
    for pair in node.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in pair.partition(":"))
        if key == "font" and (found := FONT.fullmatch(value)):
            node.set("font-size", f"{found['size']}px")
            if found["weight"]:
                node.set("font-weight", found["weight"])
        elif key not in ("", "font", "font-family"):
            node.set(key, value)
    for key in ("d", "x", "y", "transform", "width", "height"):
        if key in node.attrib:
            node.set(key, NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), node.attrib[key]))
    if "d" in node.attrib:
        node.set("d", re.sub(r"\s*([A-Za-z])\s*", r"\1", node.attrib["d"]))
    if node.get("transform", "").startswith("rotate(-0 "):
        del node.attrib["transform"]
    if link := node.attrib.pop(f"{XLINK}href", ""):
        node.set("href", link)


def _flat(node: Element) -> None:
    """Without groups that say nothing, and definitions of nothing; what all of a group say, the group says."""
    kept: list[Element] = []
    for child in node:
        _flat(child)
        if child.tag == f"{SVG}g" and not child.attrib:
            kept += child
        elif child.tag != f"{SVG}defs" or len(child):
            kept.append(child)
    node[:] = kept
    for key in ("fill", "stroke", "stroke-width", "clip-path") if node.tag == f"{SVG}g" and len(node) > 1 else ():
        values = {child.get(key) for child in node}
        if len(values) == 1 and None not in values:
            node.set(key, values.pop() or "")
            for child in node:
                del child.attrib[key]


def _own_ids(root: Element, prefix: str) -> None:
    """Ids that are used, numbered, with the figure's own letters before them; the others go."""
    used = {target: f"{prefix}-{i}" for i, target in enumerate(dict.fromkeys(_targets(root)))}
    for node in root.iter():
        own = node.attrib.pop("id", "")
        if own in used:
            node.set("id", used[own])
        for key, value in node.attrib.items():
            if "#" in value and (found := re.fullmatch(r"(url\()?#([\w-]+)(\))?", value)) and found[2] in used:
                node.set(key, f"{found[1] or ''}#{used[found[2]]}{found[3] or ''}")


def _targets(root: Element) -> Iterator[str]:
    for node in root.iter():
        for key, value in node.attrib.items():
            if found := re.fullmatch(r"url\(#([\w-]+)\)" if key != "href" else r"#([\w-]+)", value):
                yield found[1]


def _name(root: Element, prefix: str, title: str) -> None:
    """Say what the figure is, and once what most of its texts are like."""
    root.attrib.pop("version", None)
    for node in root.iter(f"{SVG}text"):
        node.attrib.setdefault("text-anchor", "start")
        for key in [key for key, value in TEXT.items() if node.get(key) == value]:
            del node.attrib[key]
    said = TEXT | {"role": "img", "aria-labelledby": f"{prefix}-title", "font-family": FONTS, "color": LIGHT[INK]}
    for key, value in (said | {"stroke-linejoin": "round", "stroke-linecap": "butt"}).items():
        root.set(key, value)
    label = Element(f"{SVG}title", {"id": f"{prefix}-title"})
    label.text = title
    root.insert(0, label)


def _coloured(text: str, colours: Mapping[str, str]) -> str:
    """Attributes that are one of the roles' colours in the colours given; text is left alone."""
    return re.sub(r'"(#0[0-9]{5})"', lambda found: f'"{colours.get(found[1], found[1])}"', text)
