"""Numbers and names in words."""

from funnelcast.experiments.formatting import interval, listing, mean_and_std_text, number, p_text, short, signed


def test_numbers_in_words() -> None:
    assert [short(x) for x in (0.62251, -0.05, None, 1.5)] == [".6225", "−.0500", "–", "1.5000"]
    assert [signed(x) for x in (0.0352, -0.01, None)] == ["+.0352", "−.0100", "–"]
    assert [p_text(x) for x in (0.0004, 0.05, 1.0, None)] == ["< .001", ".050", "1.000", "–"]
    assert [listing(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert number(2_500_000, 1, 1e6) == "2.5" and number(None) == "–"
    assert (
        mean_and_std_text({"mean": 0.5, "std": 0.01}, 2) == ".50 ± .01"
        and mean_and_std_text({"mean": 2.0, "std": None}) == "2.0000"
    )
    assert mean_and_std_text(None) == mean_and_std_text({"mean": None, "std": None}) == "–"
    gain = {"estimate": 0.1, "low": -0.05, "high": 0.25}
    assert interval(gain) == "+.1000 [−.0500, +.2500]" and interval(gain | {"low": None}) == "+.1000"
    assert interval(dict.fromkeys(gain)) == "–"
