"""Which number of a row comes from where, how tables start, and which rows a batch reaches."""

import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import Embedding, EmbeddingTable, Init
from tests.layers.reference import draw, randomise

INPUTS = InputSpec(
    fields=(("item", "items"), ("user", "users"), ("last", "items"), ("age", "ages"), ("shop", "shops")),
    sizes={"users": 4, "unused": 9, "items": 6, "ages": 3, "shops": 5},
    numeric=("price", "stock"),
)
DIMS = {"items": 3, "ages": 1}
"""Users and shops keep the common width, 2."""


def draw_ids(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = [INPUTS.sizes[vocabulary] for _, vocabulary in INPUTS.fields]
    return torch.stack([torch.randint(size, (rows,), generator=generator, dtype=torch.int32) for size in sizes], 1)


def embedding() -> Embedding:
    """In float64, every row another."""
    module = Embedding(INPUTS, 2, DIMS).double()
    randomise(module)
    return module


def blocks(module: Embedding) -> dict[str, Tensor]:
    return {name: rows for table in module.all_tables() for name, rows in table.blocks().items()}


def test_a_row_is_its_fields_by_width_and_then_its_numbers() -> None:
    """Narrow tables first; in a table the order of the fields, whatever that of the vocabularies."""
    module, ids, numeric = embedding(), draw_ids(20), draw(1, 20, 2)
    rows = blocks(module)
    item, user, last, age, shop = ids.long().unbind(1)
    expected = [rows["ages"][age], rows["users"][user], rows["shops"][shop], rows["items"][item], rows["items"][last]]
    found = module(Batch(ids, numeric))
    assert torch.equal(found, torch.cat([*expected, numeric], 1))
    assert found.shape == (20, module.width) and module.width == 1 + 2 + 2 + 3 + 3 + 2


def test_columns_follow_fields_where_vocabularies_of_one_width_alternate() -> None:
    table = EmbeddingTable(INPUTS, ["items", "shops", "users"], 2)
    randomise(table)
    rows, ids = table.blocks(), draw_ids(20)
    named = [(i, name) for i, (_, name) in enumerate(INPUTS.fields) if name != "ages"]
    assert [name for _, name in named] == ["items", "users", "items", "shops"]
    assert torch.equal(table(ids), torch.cat([rows[name][ids[:, i].long()] for i, name in named], 1))


def test_fields_of_one_vocabulary_share_its_rows_and_unused_ones_have_none() -> None:
    shapes = {name: tuple(rows.shape) for name, rows in blocks(embedding()).items()}
    assert shapes == {"ages": (3, 1), "users": (4, 2), "shops": (5, 2), "items": (6, 3)}
    assert len(embedding().all_tables()) == 3
    assert sum(p.numel() for p in embedding().parameters()) == 3 * 1 + (4 + 5) * 2 + 6 * 3


def test_row_0_stands_for_unknown_and_is_learned_like_any_other() -> None:
    module, ids = embedding(), torch.zeros(2, 5, dtype=torch.int32)
    out = module(Batch(ids, torch.zeros(2, 2, dtype=torch.float64)))
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
    module, ids = embedding(), draw_ids(3, seed=2)
    factor = draw(3, 3, module.width)
    (module(Batch(ids, torch.zeros(3, 2, dtype=torch.float64))) * factor).sum().backward()
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


def test_derivatives() -> None:
    module, ids = embedding(), draw_ids(4)
    names = [name for name, _ in module.named_parameters()]

    def squares(numeric: Tensor, *parameters: Tensor) -> Tensor:
        out: Tensor = functional_call(module, dict(zip(names, parameters, strict=True)), (Batch(ids, numeric),))
        return (out * out).sum()

    inputs = [draw(1, 4, 2).requires_grad_(), *(p.detach().clone().requires_grad_() for p in module.parameters())]
    assert torch.autograd.gradcheck(squares, inputs)
    assert torch.autograd.gradgradcheck(squares, inputs)


def reset(init: Init, seed: int, size: int = 3000) -> Embedding:
    inputs = InputSpec((("a", "large"), ("b", "small")), {"large": size, "small": 10}, ())
    module = Embedding(inputs, 4, {})
    module.reset(init, torch.Generator().manual_seed(seed))
    return module


def test_xavier_uniform_fills_its_bounds_per_vocabulary() -> None:
    """The bound is a vocabulary's own, not that of the storage it shares."""
    for rows in blocks(reset("xavier_uniform", 0)).values():
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
    again, other = reset(init, 7).state_dict(), reset(init, 8).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert all(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_numbers_alone() -> None:
    module, numeric = Embedding(InputSpec((), {}, ("price",)), 5, {}), draw(0, 3, 1)
    assert module.width == 1 and not module.all_tables()
    assert torch.equal(module(Batch(torch.empty(3, 0, dtype=torch.int32), numeric)), numeric)


def test_no_rows() -> None:
    module = embedding()
    assert module(Batch(draw_ids(0), draw(0, 0, 2))).shape == (0, module.width)
