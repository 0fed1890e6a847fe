"""The page of settings: what it says of a setting's values is all that the setting takes."""

from funnelcast.reference import reference


def line(setting: str, section: str) -> str:
    _, _, below = reference().partition(f"### {section}")
    return next(line for line in below.splitlines() if line.startswith(f"| `{setting}` |"))


def test_choices_are_told_where_there_are_no_other_values() -> None:
    assert line("by", "[split]").endswith("One of `random`, `group`, `time`. |")
    assert "One of" not in line("train", "[[stages]]")
