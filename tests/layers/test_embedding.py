"""Which number of a row comes from where, how tables start, and which rows a batch reaches."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.data.batch import Batch, Lists
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.layers.embedding import Block, Embedded, Embedding, EmbeddingTable, Init
from funnelcast.layers.lists import Pool
from funnelcast.ops import compute
from funnelcast.training.row_gradients import Reading, spans_of
from tests.layers.inputs import DIMS, INPUTS, draw_batch, draw_ids, of_row
from tests.layers.reference import draw, has_derivatives, pooled, randomise

FIELDS = InputSpec(INPUTS.fields, INPUTS.sizes, INPUTS.numeric)
"""The same without lists."""
POOLS: dict[str, Pool | None] = {"tags": "weighted_mean", "seen": "sum", "history": None, "visited": None}


def embedding(
    inputs: InputSpec = INPUTS, pools: Mapping[str, Pool | None] | None = POOLS, copies: int = 1, frozen: str = ""
) -> Embedding:
    """In float64, every row another."""
    module = Embedding(inputs, 2, DIMS, pools, frozen.split(), copies).double()
    randomise(module)
    return module


def blocks(module: Embedding) -> dict[str, Tensor]:
    return {name: rows for table in module.all_tables() for name, rows in table.blocks().items()}


def test_a_row_is_its_fields_by_width_and_then_its_numbers() -> None:
    """Narrow tables first; in a table the order of the fields, whatever that of the vocabularies."""
    module, ids, numeric = embedding(FIELDS), draw_ids(20), draw(1, 20, 2)
    rows = blocks(module)
    item, user, last, age, shop = ids.long().unbind(1)
    expected = [rows["ages"][age], rows["users"][user], rows["shops"][shop], rows["items"][item], rows["items"][last]]
    found = module(Batch(ids, numeric))
    assert torch.equal(found.flat, torch.cat([*expected, numeric], 1)) and found.sequences == ()
    assert found.flat.shape == (20, module.width) and module.width == 1 + 2 + 2 + 3 + 3 + 2


def expected_parts(module: Embedding, batch: Batch, pools: Mapping[str, Pool | None]) -> dict[str, Tensor]:
    """Of each feature the vectors (B, width) that stand in a row, by loops."""
    rows, parts = blocks(module), {}
    for i, (name, vocabulary) in enumerate(INPUTS.fields):
        parts[name] = torch.stack([rows[vocabulary][int(n)] for n in batch.ids[:, i]])
    for spec in INPUTS.lists:
        pool, table = pools[spec.name], rows[spec.vocabulary].detach().numpy()
        if pool is not None:
            each = [of_row(batch.lists[spec.name], row) for row in range(len(batch))]
            sums = [pooled([table[i] for i in ids], weights, pool, table.shape[1]) for ids, weights in each]
            parts[spec.name] = torch.from_numpy(np.array(sums))
    return parts | {name: batch.numeric[:, i : i + 1] for i, name in enumerate(INPUTS.numeric)}


EVERY: dict[str, dict[str, Pool | None]] = {
    "some pooled": POOLS,
    "all pooled": {"tags": "mean", "seen": "mean", "history": "sum", "visited": "mean"},
    "none pooled": dict.fromkeys(POOLS, None),
}


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("pools", EVERY.values(), ids=EVERY.keys())
def test_the_layout_says_where_each_feature_stands(pools: dict[str, Pool | None], copies: int) -> None:
    module, batch = embedding(INPUTS, pools, copies), draw_batch(20)
    found, parts = module(batch), expected_parts(module, batch, pools)
    assert [block.feature for block in module.layout] == [
        name
        for name in ("age", "user", "shop", "tags", "visited", "item", "last", "seen", "history", "price", "stock")
        if name in parts
    ]
    assert found.flat.shape == (20, module.width) == (20, sum(part.shape[1] for part in parts.values()))
    column = 0
    for block in module.layout:
        width = parts[block.feature].shape[1]
        assert block == Block(block.feature, column, width, 1 if block.feature in INPUTS.numeric else copies)
        torch.testing.assert_close(found.flat[:, column : column + width], parts[block.feature], rtol=0, atol=1e-6)
        column += width


def test_sequences_are_handed_on_element_by_element() -> None:
    module, batch = embedding(pools=EVERY["none pooled"], copies=2), draw_batch(20)
    found, rows = module(batch), blocks(module)
    assert module.attended == [("tags", 4), ("visited", 4), ("seen", 6), ("history", 6)]
    for (name, width), elements in zip(module.attended, found.sequences, strict=True):
        vocabulary = {each.name: each.vocabulary for each in INPUTS.lists}[name]
        assert torch.equal(elements.offsets, batch.lists[name].offsets)
        assert torch.equal(elements.vectors, rows[vocabulary][batch.lists[name].ids.long()])
        assert elements.vectors.shape[1] == width


def test_columns_follow_fields_where_vocabularies_of_one_width_alternate() -> None:
    table = EmbeddingTable(FIELDS, ["items", "shops", "users"], 2, {})
    randomise(table)
    rows, ids = table.blocks(), draw_ids(20)
    named = [(i, name) for i, (_, name) in enumerate(INPUTS.fields) if name != "ages"]
    assert [name for _, name in named] == ["items", "users", "items", "shops"]
    (found,) = table(Batch(ids, torch.zeros(20, 0)))
    assert torch.equal(found, torch.cat([rows[name][ids[:, i].long()] for i, name in named], 1))


def test_features_of_one_vocabulary_share_its_rows_and_unused_ones_have_none() -> None:
    shapes = {name: tuple(rows.shape) for name, rows in blocks(embedding()).items()}
    assert shapes == {"ages": (3, 1), "users": (4, 2), "shops": (5, 2), "tags": (7, 2), "items": (6, 3)}
    assert len(embedding().all_tables()) == 3
    assert sum(p.numel() for p in embedding().parameters()) == 3 * 1 + (4 + 5 + 7) * 2 + 6 * 3


def test_without_a_word_lists_are_pooled_by_the_mean() -> None:
    module, batch = embedding(pools=None), draw_batch(9)
    assert torch.equal(module(batch).flat, embedding(pools=dict.fromkeys(POOLS, "mean"))(batch).flat)


def test_row_0_stands_for_unknown_and_is_learned_like_any_other() -> None:
    module, ids = embedding(FIELDS), torch.zeros(2, 5, dtype=torch.int32)
    out = module(Batch(ids, torch.zeros(2, 2, dtype=torch.float64))).flat
    first = {name: rows[0] for name, rows in blocks(module).items()}
    expected = [first[name] for name in ("ages", "users", "shops", "items", "items")]
    assert torch.equal(out[0, :-2], torch.cat(expected)) and torch.all(out[0, :-2] != 0)
    out.sum().backward()
    for table in module.all_tables():
        assert table.weight.grad is not None
        reached = table.weight.grad.any(1).nonzero().flatten().tolist()
        starts = [0, *torch.tensor(list(table.sizes.values())).cumsum(0).tolist()[:-1]]
        assert reached == starts


def test_gradients_reach_exactly_the_rows_of_the_batch() -> None:
    module, ids = embedding(FIELDS), draw_ids(3, seed=2)
    factor = draw(3, 3, module.width)
    (module(Batch(ids, torch.zeros(3, 2, dtype=torch.float64))).flat * factor).sum().backward()
    expected = {name: torch.zeros_like(rows) for name, rows in blocks(module).items()}
    column = 0
    for field in (3, 1, 4, 0, 2):
        vocabulary = INPUTS.fields[field][1]
        width = expected[vocabulary].shape[1]
        for row in range(3):
            expected[vocabulary][ids[row, field]] += factor[row, column : column + width]
        column += width
    for table in module.all_tables():
        assert table.weight.grad is not None
        torch.testing.assert_close(table.weight.grad, torch.cat([expected[name] for name in table.sizes]))
    assert not all(grad.any(1).all() for grad in expected.values()), "the batch has every id"


@pytest.mark.parametrize("pools", EVERY)
def test_derivatives(pools: str) -> None:
    module, batch = embedding(pools=EVERY[pools]), draw_batch(4)
    names = [name for name, _ in module.named_parameters()]

    def squares(numeric: Tensor, *parameters: Tensor) -> Tensor:
        changed = Batch(batch.ids, numeric, lists=batch.lists)
        out: Embedded = functional_call(module, dict(zip(names, parameters, strict=True)), (changed,))
        return torch.stack([each.square().sum() for each in out.tensors()]).sum()

    assert has_derivatives(squares, [batch.numeric, *module.parameters()])


def test_frozen_vocabularies_have_a_table_of_their_own_and_get_no_gradient() -> None:
    """The numbers stay what they were; only their place among tables and columns changes."""
    module, free, batch = embedding(frozen="shops users"), embedding(), draw_batch(20)
    tables = module.all_tables()
    assert [(list(t.sizes), t.weight.requires_grad) for t in tables] == [
        (["ages"], True), (["tags"], True), (["users", "shops"], False), (["items"], True)
    ]  # fmt: skip
    with torch.no_grad():
        for name, rows in blocks(module).items():
            rows.copy_(blocks(free)[name])
    (mine, right), layouts = (module(batch), free(batch)), (module.layout, free.layout)
    starts = [{block.feature: block for block in layout} for layout in layouts]
    assert starts[0].keys() == starts[1].keys() and module.attended[0] == free.attended[0] == ("visited", 2)
    for name, block in starts[0].items():
        other = starts[1][name]
        assert torch.equal(
            mine.flat[:, block.start : block.start + block.width],
            right.flat[:, other.start : other.start + block.width],
        )
    torch.stack([each.sum() for each in mine.tensors()]).sum().backward()
    assert [t.weight.grad is not None for t in tables] == [True, True, False, True]


@pytest.mark.parametrize(("vocabulary", "width"), [("items", 3), ("tags", 2)])
def test_vectors_are_taken_over_by_id_in_every_copy(vocabulary: str, width: int) -> None:
    """Of a vocabulary with a table to itself, and of the last of three in one."""
    module, vectors = embedding(copies=2), torch.arange(1.0, 2 * width + 1).view(2, width)
    before = {name: rows.detach().clone() for name, rows in blocks(module).items()}
    module.take_over(vocabulary, torch.tensor([4, 1], dtype=torch.int32), vectors)
    for name, rows in blocks(module).items():
        if name == vocabulary:
            before[name][4], before[name][1] = (torch.tensor([*v, *v]) for v in vectors.tolist())
        assert torch.equal(rows, before[name])


def test_rows_of_an_embedded_batch_and_its_leaves() -> None:
    module, batch = embedding(), draw_batch(12)
    whole = module(batch)
    for start, stop in ((0, 5), (5, 12), (3, 3)):
        part, alone = whole.slice(start, stop), module(batch.slice(start, stop))
        assert all(torch.equal(a, b) for a, b in zip(part.tensors(), alone.tensors(), strict=True))
        assert [e.offsets.tolist() for e in part.sequences] == [e.offsets.tolist() for e in alone.sequences]
    for trained in (True, False):
        leaves = whole.leaves(trained=trained)
        assert all(torch.equal(a, b) for a, b in zip(leaves.tensors(), whole.tensors(), strict=True))
        assert all(t.is_leaf and t.requires_grad == trained for t in leaves.tensors())
        assert all(t.requires_grad and not t.is_leaf for t in whole.tensors())


def reset(init: Init, seed: int, size: int = 3000, copies: int = 1) -> Embedding:
    inputs = InputSpec((("a", "large"), ("b", "small")), {"large": size, "small": 10}, ())
    module = Embedding(inputs, 4, {}, copies=copies)
    module.reset(init, torch.Generator().manual_seed(seed))
    return module


@pytest.mark.parametrize("copies", [1, 3])
def test_xavier_uniform_fills_its_bounds_per_vocabulary(copies: int) -> None:
    """The bound is a vocabulary's own, not that of the storage it shares; and a copy's, which is a table by itself."""
    for rows in blocks(reset("xavier_uniform", 0, copies=copies)).values():
        assert rows.shape[1] == 4 * copies
        bound = math.sqrt(6 / (len(rows) + 4))
        assert 0.8 * bound < rows.abs().max() <= bound
        assert rows.var().item() == pytest.approx(bound**2 / 3, rel=0.5 if len(rows) == 10 else 0.05)


def test_normal_has_a_hundredth_of_standard_deviation() -> None:
    rows = blocks(reset("normal", 0))["large"]
    assert rows.std().item() == pytest.approx(0.01, rel=0.03)
    assert rows.abs().max() > 0.03 and abs(rows.mean().item()) < 4 * 0.01 / math.sqrt(rows.numel())


@pytest.mark.parametrize("init", ["xavier_uniform", "normal"])
def test_the_generator_decides_every_number(init: Init) -> None:
    torch.manual_seed(1)
    first = reset(init, 7).state_dict()
    torch.manual_seed(2)
    second, other = reset(init, 7).state_dict(), reset(init, 8).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert all(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_numbers_alone() -> None:
    module, numeric = Embedding(InputSpec((), {}, ("price",)), 5, {}), draw(0, 3, 1)
    assert module.width == 1 and not module.all_tables()
    assert torch.equal(module(Batch(torch.empty(3, 0, dtype=torch.int32), numeric)).flat, numeric)


@pytest.mark.parametrize("pool", ["mean", None])
def test_a_list_alone(pool: Pool | None) -> None:
    inputs = InputSpec((), {"items": 6}, (), (ListSpec("history", "items", "sequence", max_length=4),))
    module, batch = embedding(inputs, {"history": pool}), draw_batch(5, inputs=inputs)
    found = module(batch)
    assert module.width == (0 if pool is None else 3) and found.flat.shape == (5, module.width)
    assert module.attended == ([("history", 3)] if pool is None else []) and len(found.sequences) == (pool is None)


def test_no_rows() -> None:
    module = embedding()
    found = module(draw_batch(0))
    assert found.flat.shape == (0, module.width)
    assert [each.vectors.shape for each in found.sequences] == [(0, 2), (0, 3)]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("copies", [1, 2])
def test_kernels_look_up_the_same_rows(rows: int, copies: int) -> None:
    module = embedding(copies=copies).float()
    batch = draw_batch(rows, dtype=torch.float32)
    with torch.no_grad():
        with compute(torch.device("cpu"), order=0):
            found = module(batch)
        assert all(map(torch.equal, found.tensors(), module(batch).tensors()))


def test_rare_ids_read_the_row_of_unknown_ids() -> None:
    """In fields and lists, by kernels and by references, and in the rows that get gradients."""
    inputs = InputSpec(
        (("user", "user"), ("item", "item")), {"user": 4, "item": 3}, (), (ListSpec("seen", "item", "multi"),)
    )
    module = Embedding(inputs, 2, {}, {"seen": "mean"}, min_rows=5)
    randomise(module)
    module.keep({"user": torch.tensor([9, 4, 5, 0]), "item": torch.tensor([0, 7, 1])})
    (table,) = module.all_tables()
    user, item = table.blocks().values()
    seen = Lists(torch.tensor([0, 2, 2]), torch.tensor([1, 2], dtype=torch.int32))
    batch = Batch(torch.tensor([[1, 1], [2, 2]], dtype=torch.int32), torch.empty(2, 0), lists={"seen": seen})
    expected = torch.stack(
        [
            torch.cat([user[0], item[1], (item[1] + item[0]) / 2]),
            torch.cat([user[2], item[0], torch.zeros(2)]),
        ]
    )
    for order in (0, 2):
        with torch.no_grad(), compute(torch.device("cpu"), order=order):
            torch.testing.assert_close(module(batch).flat, expected)
    rows = Reading.of(spans_of([table])[0], batch).rows
    assert sorted(rows.tolist()) == [0, 2, 4, 5]
    module.keep({"user": torch.tensor([0, 9, 0]), "item": torch.tensor([0])}, started=True)
    assert [kept.tolist() for kept in table.kept_blocks().values()] == [[True, True, True, False], [True, True, False]]
