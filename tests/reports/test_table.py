"""Tables as data: groups of heads, and Markdown."""

from __future__ import annotations

from funnelcast.experiments.published import Published
from funnelcast.reports.published_figures import published_of, published_table
from funnelcast.reports.table import Cell, Column, Table, text

HEADS = [Column("model"), Column("AUC", "click"), Column("p", "click"), Column("AUC", "buy")]


def test_heads_side_by_side_share_a_group() -> None:
    table = Table("t", HEADS, [])
    assert table.groups == [("", 1), ("click", 2), ("buy", 1)]
    assert table.opening == {1, 3}
    assert Table("t", HEADS[:1], []).groups == [] and Table("t", HEADS[:1], []).opening == set()


def test_markdown_has_every_cell_and_escapes_bars() -> None:
    table = Table("t", HEADS, [[text("a|b"), Cell("1", 1, "[0, 2]"), Cell("–"), Cell("x\ny")]], "Note.")
    assert list(table.markdown()) == [
        "| model | AUC click | p click | AUC buy |",
        "|---|---|---|---|",
        "| a\\|b | 1 [0, 2] | – | x y |",
        "",
        "Note.",
    ]


def test_published_figures_stand_beside_ours_with_reasons() -> None:
    auc = {"mean": 0.61, "std": 0.01, "values": [0.6, 0.62]}
    results = {
        "protocol": {"name": "aliccp-aitm"},
        "test_rows": 43_016_840,
        "models": {"MAN": {"figures": {"click": {"auc": auc}}}, "PLE": {"figures": {"click": {"auc": auc}}}},
    }
    published = published_of(results)
    assert published is not None
    table, remarks = published_table(results, published)
    assert table is not None
    rows = {(row[0].text, row[4].text): row for row in table.rows}
    ours, theirs = rows["MAN", "Luo et al. 2023, Table 1"][2:4]
    assert (ours.text, theirs.text, theirs.value) == (".6100 ± .0100", ".6225 ± .0003", 0.6225)
    assert rows["PLE", "PLE paper"][3].text == ".6112 †"
    assert any(remark.startswith("† PLE paper: another protocol or other rows than ours:") for remark in remarks)
    assert not any(remark.startswith("† Luo") for remark in remarks)
    table, remarks = published_table(results | {"test_rows": 1000}, published)
    assert table is not None and all(row[3].text.endswith(" †") for row in table.rows)
    assert any(remark.startswith("† Luo") for remark in remarks)


def test_what_is_published_is_known_by_name_or_by_protocol() -> None:
    assert published_of({"published": "census-income", "protocol": {}}) == Published.of("census-income")
    assert published_of({"protocol": {"name": "shop"}}) is None and published_of({"protocol": {}}) is None
