"""The funnel: its text form, what follows from it, and its faults."""

from __future__ import annotations

from typing import Any

import pytest

from funnelcast.errors import ConfigError
from funnelcast.schema.funnel import Funnel


def test_the_steps_before_a_step() -> None:
    tree = Funnel.parse("click; cart after click; buy after cart; like after click")
    assert [tree.before(step) for step in range(4)] == [(), (0,), (1, 0), (0,)]


def test_a_chain() -> None:
    funnel = Funnel.parse("click; conversion after click")
    assert funnel.names == ("click", "conversion")
    assert funnel.parents == (-1, 0)
    assert funnel.edges == ((0, 1),)
    assert funnel.label_columns == ("click", "conversion")
    assert [output.column for output in funnel.outputs] == ["p_click", "p_conversion", "p_conversion_given_click"]
    assert [(output.step, output.given) for output in funnel.outputs] == [(0, None), (1, None), (1, 0)]


def test_a_tree() -> None:
    funnel = Funnel.parse("click; cart after click; buy after cart; like after click")
    assert funnel.parents == (-1, 0, 1, 0)
    assert funnel.edges == ((0, 1), (1, 2), (0, 3))


def test_parallel_labels_with_an_edge_for_transfer_alone() -> None:
    funnel = Funnel.parse(" marital ;income", transfer=["marital -> income"], labels={"marital": "never_married"})
    assert funnel.parents == (-1, -1)
    assert funnel.edges == ((0, 1),)
    assert funnel.label_columns == ("never_married", "income")
    assert [output.given for output in funnel.outputs] == [None, None]


def test_a_transfer_edge_that_is_also_the_funnels_own_counts_once() -> None:
    funnel = Funnel.parse("a; b after a; c after b", transfer=["a -> c", "a -> b"])
    assert funnel.edges == ((0, 1), (0, 2), (1, 2))


def test_the_dumped_form_is_read_back() -> None:
    funnel = Funnel.parse("a; b after a; c", transfer=["a -> c"], labels={"c": "x"}, on_broken="imply")
    assert Funnel.from_dict(funnel.model_dump(mode="json")) == funnel


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": "click; buy aftr click"}, "cannot read 'buy aftr click'"),
        ({"steps": ""}, "cannot read ''"),
        ({"steps": "click; click"}, "steps: step 'click' is declared twice"),
        ({"steps": "click; buy after click; buy_given_click"}, "steps: step 'buy_given_click' has the word 'given'"),
        ({"steps": "y; x_given after y"}, "step 'x_given' has the word 'given', by which outputs are named"),
        ({"steps": "buy after click; click"}, "steps: step 'buy' is after 'click', which is not declared before it"),
        ({"steps": "click; buy after clik"}, "did you mean 'click'?"),
        ({"steps": "a; b", "labels": {"d": "x"}}, "labels: 'd' is no step; known: a, b"),
        ({"steps": "a; b", "labels": {"b": "a"}}, "labels: column 'a' is the label of two steps"),
        ({"steps": "a; b", "transfer": ["b -> a"]}, "transfer: b -> a must run from an earlier step to a later one"),
        ({"steps": "a; b", "transfer": ["a -> a"]}, "transfer: a -> a must run"),
        ({"steps": "a; b", "transfer": ["a => b"]}, "write edges as 'STEP -> STEP'"),
        ({"steps": "a; b", "transfer": ["a -> bb"]}, "transfer: 'bb' is no step"),
    ],
)
def test_faults(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Funnel.from_dict(settings)
    assert expected in str(raised.value)


def test_a_word_that_only_holds_given_is_a_name() -> None:
    assert [output.name for output in Funnel.parse("a; forgiven after a").outputs][-1] == "forgiven_given_a"


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Funnel.parse("a; b after x; a", labels={"d": "x"}, transfer=["a -> e"])
    assert len(raised.value.faults) == 4
