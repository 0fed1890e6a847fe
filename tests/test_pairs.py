"""What stands for a product of settings has all their pairs."""

from itertools import combinations, product

from tests.pairs import pairwise


def test_every_pair_of_values_is_there_in_fewer_cases() -> None:
    settings = ("abc", range(4), (False, True), "xyz")
    found = pairwise(*settings)
    for i, j in combinations(range(4), 2):
        assert {(each[i], each[j]) for each in found} == set(product(settings[i], settings[j]))
    assert len(found) == len(set(found)) < 20 and found == pairwise(*settings)


def test_two_settings_are_their_product() -> None:
    assert pairwise("ab", "xy") == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
