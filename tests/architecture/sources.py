"""The source tree as tests look at it."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "service"


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every module of the service, by its path from the root."""
    paths = sorted(SERVICE.rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def texts_by_module() -> dict[str, set[str]]:
    """Return every string that each module holds."""
    return {path: set(_texts(tree)) for path, tree in modules().items()}


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names_in(tree: ast.Module) -> Iterator[str]:
    """Yield every name and attribute that a module mentions, imports included."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
