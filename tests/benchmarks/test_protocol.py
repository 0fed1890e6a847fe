"""What may stand in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks.protocol import protocol_of, require_one
from funnelcast.errors import ComparisonError
from tests import tiny


@pytest.mark.slow
def test_it_is_of_the_rows_the_split_and_the_part(tmp_path: Path) -> None:
    tables = [tiny.write_table(tmp_path / str(i), seed=i // 2, test=80 - 20 * (i == 1)) for i in range(3)]
    second = tiny.write_table(tmp_path / "again")
    prints = [protocol_of(table).fingerprint for table in tables] + [protocol_of(tables[0], "dev").fingerprint]
    assert len(set(prints)) == 4
    assert protocol_of(second) == protocol_of(tables[0])
    text = protocol_of(tables[0]).text
    assert "160 training, 80 dev and 80 test rows" in text
    assert "conversion_given_click over rows with click" in text


def test_a_table_of_two_is_refused() -> None:
    def run(fingerprint: str) -> dict[str, Any]:
        return {"protocol": {"name": "n", "text": f"text of {fingerprint}", "fingerprint": fingerprint}}

    assert require_one({"a": run("1"), "b": run("1")})["fingerprint"] == "1"
    with pytest.raises(ComparisonError, match=r"a and c were measured by different protocols.*text of 2"):
        require_one({"a": run("1"), "b": run("1"), "c": run("2")})
