"""The rules of the tree that a machine can check: one-way imports, forbidden calls, sizes, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import funnelcast

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
LAYERS = [
    "errors", "runtime", "compiled", "schema", "data", "kernels", "ops", "layers", "models", "evaluation",
    "training", "callbacks", "boosting", "calibration", "registry", "serving", "exporting", "experiments", "benchmarks",
    "reports", "fewshot", "data_checks", "server", "reference", "testing", "cli",
]  # fmt: skip
"""Lowest first; a module imports from its own layer and those below."""
Function = ast.FunctionDef | ast.AsyncFunctionDef

FORBIDDEN = {
    "print": r"(builtins\.)?print",
    "pickle": r"c?pickle|cloudpickle|dill|joblib|marshal|shelve|torch\.(load|save)|allow_pickle=(?!False).*",
    "import *": r".*\.\*",
    "a global seed": r"((np|numpy)\.)?random\.seed|torch\.((random|cuda)\.)?(manual_seed|seed)(_all)?",
}
"""What no name, import or `argument=value` in src may be."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def modules() -> dict[str, Path]:
    """`funnelcast.data.table` and the like; a package goes by its own name."""
    names = (".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__") for path in files("src"))
    return dict(zip(names, files("src"), strict=True))


def imports(module: str) -> set[str]:
    """Our modules that a module imports anywhere, functions included; of the package's root all but names for types."""
    found = set[str]()
    for node in imported_nodes(tree_of(modules()[module]), skip_types=module == "funnelcast"):
        for name in imported_names(node):
            if name.partition(".")[0] == "funnelcast":
                found.add(name if name in modules() else name.rpartition(".")[0])
    return found


def imported_nodes(node: ast.AST, skip_types: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    if not (skip_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):  # which holds no import
                yield from imported_nodes(child, skip_types)


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"a relative import: {ast.unparse(node)}"
    return [f"{node.module}.{alias.name}" for alias in node.names]


def layer_of(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def test_the_layers_are_those_of_the_tree() -> None:
    assert {name.split(".")[1] for name in modules() if name != "funnelcast"} == set(LAYERS)


@pytest.mark.slow
def test_imports_run_one_way() -> None:
    upward = [
        f"{module} imports {other}"
        for module in modules()
        if module != "funnelcast"
        for other in imports(module)
        if other == "funnelcast" or layer_of(other) > layer_of(module)
    ]
    assert not upward


def test_no_package_has_the_name_of_a_public_function() -> None:
    """Importing `funnelcast.report` as a package would put it in the place of the function."""
    assert not set(LAYERS) & set(funnelcast.__all__)


def test_only_operations_import_kernels() -> None:
    importers = {name for name in modules() if any(other.startswith("funnelcast.kernels") for other in imports(name))}
    assert {".".join(name.split(".")[:2]) for name in importers} == {"funnelcast.kernels", "funnelcast.ops"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: imports(module) for module in modules()}
    assert sum(map(len, graph.values())) > len(graph), "the imports are not found"
    assert sorted(TopologicalSorter(graph).static_order()) == sorted(modules())  # raises CycleError, which names it


def used_names(tree: ast.Module) -> Iterator[str]:
    """Names and dotted names that code uses or imports; `name=True` for an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported_names(node)
            yield from [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        elif isinstance(node, ast.keyword):
            yield f"{node.arg}={ast.unparse(node.value)}"


def test_no_processor_feature_is_named_outside_of_kernels() -> None:
    """In code, that is; settings say what they are for."""
    feature = re.compile(r"(^|[._])(has_)?(avx|amx|sse|vnni|bf16)", re.IGNORECASE)
    named = {path for path in files("src") for name in used_names(tree_of(path)) if feature.search(name)}
    assert named and not [path for path in named if "kernels" not in path.relative_to(SRC).parts]


@cache
def used() -> dict[str, Path]:
    """Each name once, and a file that has it."""
    return {name: path for path in files("src") for name in used_names(tree_of(path))}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_src_has_no(what: str) -> None:
    assert len(used()) > 10_000
    assert not [
        f"{path}: {name}" for name, path in used().items() if re.fullmatch(FORBIDDEN[what], name, re.IGNORECASE)
    ]


def test_src_has_no_todo() -> None:
    assert not [path for path in files("src") if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def body_lines(function: Function) -> int:
    """From the signature or the docstring to the end."""
    assert function.returns is not None and function.end_lineno is not None
    above = function.returns if ast.get_docstring(function) is None else function.body[0]
    return function.end_lineno - (above.end_lineno or 0)


def test_sizes_of_files() -> None:
    sizes = {path: lines_of(path) for path in files("src")}
    assert not {path: size for path, size in sizes.items() if size > 300}
    assert not {path: size for path in files("tests", "bench", "proofs", "harness") if (size := lines_of(path)) > 400}


def test_sizes_of_functions() -> None:
    sizes = {
        f"{path}:{node.lineno} {node.name}": body_lines(node)
        for path in files("src")
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
    }
    assert len(sizes) > 500
    assert median(sizes.values()) <= 8
    assert not {name: size for name, size in sizes.items() if size > 40}


def test_every_module_and_public_name_says_what_it_is() -> None:
    silent = [
        f"{path}:{getattr(node, 'name', 'module')}"
        for path in files("src")
        for node in [tree_of(path), *tree_of(path).body]
        if isinstance(node, ast.Module | Function | ast.ClassDef)
        if not getattr(node, "name", "").startswith("_") and ast.get_docstring(node) is None
    ]
    assert not silent


def raised_by(function: Function) -> Iterator[str]:
    """What the function's own code raises, without that of functions in it."""
    below = [*function.body]
    while below:
        node = below.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            below += ast.iter_child_nodes(node)  # type: ignore[arg-type]


def public_functions() -> Iterator[tuple[str, Function]]:
    """Those of modules and of public classes, but of the command line, whose docstrings are its help."""
    for path in files("src"):
        classes = [node for node in tree_of(path).body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
        for node in [*tree_of(path).body, *(member for each in classes for member in each.body)]:
            if isinstance(node, Function) and not node.name.startswith("_") and path.parent.name != "cli":
                yield f"{path}:{node.lineno} {node.name}", node


def test_docstrings_of_public_functions_name_their_errors() -> None:
    """Where the function itself raises one of errors.py."""
    ours = {node.name for node in tree_of(SRC / "funnelcast/errors.py").body if isinstance(node, ast.ClassDef)}
    raising = {name: node for name, node in public_functions() if ours.intersection(raised_by(node))}
    assert len(raising) > 50
    assert not [name for name, node in raising.items() if not re.search(r"\bRaises?\b", ast.get_docstring(node) or "")]


OURS = re.compile(
    r"^_*(way_?back|wayback|turned|turned_times|loop_?dropout|is_simple|rectif(y|ied)|again|lease|len[dt]|shelves|"
    r"tell_apart|told|hear|together|helpers|borrowed|course(_of|_on)?|lifts?|laws?|known_?law|no_search|kernels_twice|"
    r"sure(ly)?|is_sure|asked|pieces?|by_piece|knots?|readers|rooms?|spreads?|paired|places|toward|wayforward|distinct)$",
    re.IGNORECASE,
)
"""Names of our own for what the field has words for; docs/reference/glossary.md has those."""
PHRASES = re.compile(
    r"way back|falls away|by hand|told apart|asked for|in turns\b(?! of)|tried and left", re.IGNORECASE
)


def names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_names_and_phrases_are_the_fields() -> None:
    folders = ("src", "tests", "bench", "proofs", "harness")
    names = {f"{path}: {name}" for path in files(*folders) for name in names_in(tree_of(path)) if OURS.match(name)}
    assert not names
    pages = [*files("src"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    assert not {f"{page}: {found}" for page in pages for found in PHRASES.findall(page.read_text())}
