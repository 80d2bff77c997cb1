"""What a module says it offers is what it offers."""

import ast
import importlib
from collections.abc import Iterable
from pathlib import Path

import pytest

import agentpipe

ROOT = Path(__file__).parents[1]
FOLDERS = {"agentpipe": ROOT / "agentpipe", "agentpipe_cli": ROOT / "cli" / "agentpipe_cli"}
MODULES = {
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for package, folder in FOLDERS.items()
    for path in sorted(folder.rglob("*.py"))
}
#: Modules of names made when asked for (PEP 562): what they offer, beyond what their text defines, is tested below.
LAZY = {"agentpipe": {"Event"}}


def defined(tree: ast.Module) -> set[str]:
    """The names without underscore that the module's own text defines: classes, functions, type aliases."""
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in names if not name.startswith("_")}


def assigned(tree: ast.Module) -> set[str]:
    """The names that the module's own text binds at its top."""
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def offered(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def in_order(names: Iterable[str]) -> list[str]:
    """As ruff sorts them: constants, then classes, then the rest."""
    return sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))


def test_the_public_names_are_sorted_and_importable() -> None:
    assert list(agentpipe.__all__) == in_order(agentpipe.__all__)
    for name in agentpipe.__all__:
        assert getattr(agentpipe, name) is not None
    assert not hasattr(agentpipe, "nothing")


@pytest.mark.parametrize("module", MODULES)
def test_all_is_there_sorted_true_and_complete(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    names = offered(tree)
    if names is None:
        assert not defined(tree), "a module that defines public names says so in __all__"
        return
    assert names == in_order(names)
    assert len(names) == len(set(names))
    loaded = importlib.import_module(module)
    missing = [name for name in names if not hasattr(loaded, name)]
    assert not missing
    assert defined(tree) <= set(names), f"not in __all__: {sorted(defined(tree) - set(names))}"
    if MODULES[module].name != "__init__.py":
        assert set(names) <= defined(tree) | assigned(tree) | LAZY.get(module, set())
