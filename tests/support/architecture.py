"""The source tree as data, for the laws in `tests/test_architecture.py`."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "taps_security"
ENGINES = ("stack", "protocols", "parts", "crypto", "properties", "inner", "recovery")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """One Python file. `name`: its path from the root of the tree."""

    name: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.name).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def parts(self) -> tuple[str, ...]:
        """taps_security/protocols/tls/wire.py -> (protocols, tls, wire)"""
        return Path(self.name).with_suffix("").parts[1:]

    @property
    def is_engine(self) -> bool:
        return self.name.startswith(PACKAGE) and self.parts[0] in ENGINES

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def imports(self) -> Iterator[tuple[int, str]]:
        """Each imported absolute module with its line, those inside functions and type-checking blocks too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.lineno, node.module or ""


def tracked_files() -> list[str]:
    """What belongs to the project: every file that git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.splitlines() if (ROOT / name).is_file()})


def sources(*folders: str) -> list[Source]:
    """The Python files below these folders."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Source(path.relative_to(ROOT).as_posix()) for path in sorted(found)]


def names_used(node: ast.AST) -> set[str]:
    """Every identifier that a piece of code mentions, in annotations given as text too."""
    used = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            used.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            used.add(inner.attr)
    return used


def public(name: str) -> bool:
    return not name.startswith("_")


def documented_methods(folders: tuple[str, ...]) -> set[str]:
    """Methods of classes that say what they do: who implements them need not say it again."""
    return {
        method.name
        for source in sources(*folders)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(method)
    }


def undocumented(source: Source, inherited: set[str]) -> Iterator[str]:
    """The public module, classes, functions and methods of a file that lack a docstring."""
    if not ast.get_docstring(source.tree) and source.text.strip():
        yield f"{source.name}: the module"
    for node in source.tree.body:
        if not isinstance(node, Definition) or not public(node.name):
            continue
        if not ast.get_docstring(node):
            yield f"{source.name}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if (
                    isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    and public(method.name)
                    and method.name not in inherited
                    and not ast.get_docstring(method)
                    and not _repeats(method)
                ):
                    yield f"{source.name}:{method.lineno} {node.name}.{method.name}"


def _repeats(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A further overload or a setter of what is documented already, or a mere form: its class says what it is."""
    decorated = any(names_used(decorator) & {"overload", "setter", "override"} for decorator in method.decorator_list)
    body = method.body[0]
    return decorated or (
        isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant) and body.value.value is ...
    )


def compared_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts that code compares something with: ==, in, match."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        else:
            continue
        for operand in operands:
            for inner in ast.walk(operand):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.lineno, inner.value
