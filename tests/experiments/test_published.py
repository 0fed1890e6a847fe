"""Figures of others, as data."""

from __future__ import annotations

import pytest

from funnelcast.errors import ConfigError
from funnelcast.experiments.published import FILES, Published


@pytest.mark.parametrize("name", FILES)
def test_every_file_holds_aucs_of_known_models(name: str) -> None:
    published = Published.of(name)
    for source in published.sources:
        assert source.protocol and source.place
        for figures in source.figures.values():
            assert all(0.5 < (v[0] if isinstance(v, tuple) else v) < 1 for v in figures.values())


def test_the_gain_that_the_paper_misprints_is_found() -> None:
    broken = [text for source in Published.of("ali-ccp").sources for text in source.broken_gains()]
    assert broken == ["MAN, click: printed gain 0.0352, 0.6225 - 0.5837 = 0.0388"]


def test_papers_come_first_and_re_implementations_from_the_best_on() -> None:
    found = list(Published.of("ali-ccp").figures_of("PLE", "conversion"))
    kinds = [figure.source.kind for figure in found]
    assert kinds == sorted(kinds)
    others = [figure.value for figure in found if figure.source.kind != "paper"]
    assert others == sorted(others, reverse=True) and len(others) > 2


def test_figures_are_comparable_on_the_real_file_alone() -> None:
    published = Published.of("ali-ccp")
    paper, esmm = published.sources[:2]
    assert published.is_comparable(paper, "aliccp-aitm", 43_016_840)
    assert not published.is_comparable(paper, "aliccp-aitm", 133_333)
    assert not published.is_comparable(paper, "aliccp-full", 43_016_840)
    assert not published.is_comparable(esmm, "aliccp-aitm", 43_016_840)


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ali-ccp'"):
        Published.of("aliccp")
