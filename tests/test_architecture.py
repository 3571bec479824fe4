"""The laws of the source tree. Each failure names the file and what to do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.architecture import (
    PACKAGE,
    ROOT,
    Source,
    compared_strings,
    documented_methods,
    names_used,
    public,
    sources,
    tracked_files,
    undocumented,
)

MAX_FILE = 600  # lines
MAX_FUNCTION = 60  # lines
CODE = ("taps_security", "tests", "benchmarks", "examples")
PRODUCT = sources(PACKAGE)

# Engines get `now`, wall clock and randomness from outside; sockets and loops belong to `transport` and `connection`.
FORBIDDEN_IN_ENGINES = {"asyncio", "socket", "selectors", "threading", "time", "random", "secrets", "datetime"}
ALLOWED = {("crypto", "datetime"): "cryptography wants datetime objects; no clock is read"}

# Modules without a test file of the same name, and why.
NO_TWIN = {
    "taps_security/cli/__main__.py": "one line; the command's tests run it",
    "taps_security/__main__.py": "one line; the command's tests run it",
}
# Test folders that mirror no package.
NOT_MIRRORS = (
    "interop",
    "conformance",
    "faults",
    "fuzz",
    "examples",
    "support",
    "toys",
    "benchmarks",
    "docs",
    "vectors",
)


def failing(title: str, rows: list[str]) -> str:
    return f"{title}:\n  " + "\n  ".join(sorted(rows))


# -------------------------------------------------------------------------------------------------------- imports
def test_import_contracts_hold() -> None:
    """The contracts of pyproject.toml (import-linter), which follow indirect imports too."""
    program = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_folder_is_a_package() -> None:
    """Without an __init__.py a folder is missing from the wheel."""
    folders = {path.parent for path in (ROOT / PACKAGE).rglob("*.py")}
    bad = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
    assert not bad, failing("folders without __init__.py", bad)


def test_engines_read_no_clock_and_know_no_loop() -> None:
    bad = [
        f"{source.name}:{line} imports {module}"
        for source in PRODUCT
        if source.is_engine
        for line, module in source.imports()
        if module.split(".")[0] in FORBIDDEN_IN_ENGINES and (source.parts[0], module) not in ALLOWED
    ]
    assert not bad, failing("engines must be sans-IO", bad)


def test_only_crypto_imports_the_cryptographic_libraries() -> None:
    bad = [
        f"{source.name}:{line} imports {module}"
        for source in PRODUCT
        if source.parts[0] != "crypto"
        for line, module in source.imports()
        if module.split(".")[0] in {"cryptography", "nacl"}
    ]
    assert not bad, failing("use what `crypto/` offers, or add to it", bad)


def test_nobody_above_the_rooms_asks_for_a_protocol_by_name() -> None:
    rooms = {path.name for path in (ROOT / PACKAGE / "protocols").iterdir() if (path / "__init__.py").exists()}
    names = rooms | {"tcpcrypt", "dtls", "ikev2-esp", "wireguard", "dtls-srtp", "quic", "curvecp", "minimalt"}
    bad = [
        f"{source.name}:{line} compares with {text!r}"
        for source in PRODUCT
        if source.parts[0] != "protocols"
        for line, text in compared_strings(source.tree)
        if text in names
    ]
    assert not bad, failing("ask the descriptor instead", bad)


# ----------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize("folder", CODE)
def test_files_and_functions_stay_small(folder: str) -> None:
    bad = []
    for source in sources(folder):
        lines = len(source.text.splitlines())
        if lines > MAX_FILE:
            bad.append(f"{source.name}: {lines} lines, at most {MAX_FILE}")
        for function in source.functions():
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > MAX_FUNCTION:
                bad.append(f"{source.name}:{function.lineno} {function.name}: {length} lines, at most {MAX_FUNCTION}")
    assert not bad, failing("split along a word of the design", bad)


# ----------------------------------------------------------------------------------------------------------- twins
def has_behaviour(source: Source) -> bool:
    """Some function does something: modules that only declare (events, protocols, aliases) need no tests."""
    return any(
        not isinstance(node, ast.Expr | ast.Pass)
        for function in source.functions()
        for node in function.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    )


def test_every_module_has_its_tests() -> None:
    bad = []
    for source in PRODUCT:
        path = Path(source.name)
        if path.name == "__init__.py" or source.name in NO_TWIN or not has_behaviour(source):
            continue
        folder = ROOT / "tests" / path.relative_to(PACKAGE).parent
        stem = path.stem.lstrip("_")
        if not (folder / f"test_{stem}.py").exists() and not list(folder.glob(f"test_{stem}_*.py")):
            bad.append(f"{source.name} wants {(folder / f'test_{stem}.py').relative_to(ROOT)}")
    assert not bad, failing("modules without tests", bad)


def test_every_test_has_its_module() -> None:
    """test_b.py and test_b_more.py test b.py, or the package b; a package's own test is named after it."""
    bad = []
    for source in sources("tests"):
        path = Path(source.name)
        if not path.name.startswith("test_") or len(path.parts) == 2 or path.parts[1] in NOT_MIRRORS:
            continue
        folder = ROOT / PACKAGE / Path(*path.parts[1:-1])
        modules = {found.stem.lstrip("_") for found in folder.glob("*.py")} | {folder.name}
        modules |= {found.name for found in folder.glob("*") if (found / "__init__.py").exists()}
        words = path.stem.removeprefix("test_").split("_")
        if not any("_".join(words[:count]) in modules for count in range(1, len(words) + 1)):
            bad.append(f"{source.name} names no module of {folder.relative_to(ROOT)}")
    assert not bad, failing("tests without a module", bad)


# -------------------------------------------------------------------------------------------------------- contract
def stack_definitions() -> dict[str, ast.AST]:
    """Public classes and aliases of `stack/`, each with its code. Errors are raised above the rooms too."""
    found: dict[str, ast.AST] = {}
    for source in sources(f"{PACKAGE}/stack"):
        for node in source.tree.body if source.parts[-1] != "errors" else ():
            if isinstance(node, ast.ClassDef) and public(node.name):
                found[node.name] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and public(node.target.id):
                found[node.target.id] = ast.Module(body=[], type_ignores=[])  # a list of names uses none of them
            elif isinstance(node, ast.Assign | ast.FunctionDef):
                found.update(dict.fromkeys(names_bound(node), node))
    return found


def names_bound(node: ast.Assign | ast.FunctionDef) -> list[str]:
    """Private values and functions of a module: through them a class uses what they name."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    return [target.id for target in node.targets if isinstance(target, ast.Name) and target.id != "__all__"]


def is_only_a_form(definition: ast.AST) -> bool:
    """An alias, or a Protocol: nothing makes one, so whoever names it uses it."""
    bases = definition.bases if isinstance(definition, ast.ClassDef) else []
    return isinstance(definition, ast.Module) or any("Protocol" in names_used(base) for base in bases)


def test_every_type_of_the_contract_has_a_user() -> None:
    """A type enters `stack/` with its first user in a room or a test stack; above them nothing may count on it."""
    definitions = stack_definitions()
    rooms = [*sources(f"{PACKAGE}/protocols"), *(each for each in sources("tests") if "test_" not in each.name)]
    above = [source for source in PRODUCT if source.parts[0] != "stack"]
    reached = set().union(*(names_used(source.tree) for source in rooms)) & set(definitions)
    named = set().union(*(names_used(source.tree) for source in above))
    reached |= {name for name, node in definitions.items() if is_only_a_form(node) and name in named}
    pending = list(reached)
    while pending:
        more = (names_used(definitions[pending.pop()]) & set(definitions)) - reached
        reached |= more
        pending += more
    types = {name for name, node in definitions.items() if isinstance(node, ast.ClassDef | ast.Module)}
    unused = sorted(types - reached)
    assert not unused, failing("without a user; keep them as prose in docs/decisions/0001-contract.md", unused)


# ----------------------------------------------------------------------------------------------------------- words
def test_public_names_are_explained() -> None:
    inherited = documented_methods((f"{PACKAGE}/stack", f"{PACKAGE}/transport", f"{PACKAGE}/connection"))
    bad = [row for source in PRODUCT for row in undocumented(source, inherited)]
    assert not bad, failing("public names without a docstring", bad)


def test_public_names_load_lazily() -> None:
    """`import taps_security` costs next to nothing, and each public name is there when it is asked for."""
    code = (
        "import sys, taps_security as taps\n"
        "heavy = {'asyncio', 'cryptography', 'nacl', 'ssl', 'rich', 'typer', 'uvloop'} & set(sys.modules)\n"
        "assert not heavy, f'importing taps_security imports {sorted(heavy)}'\n"
        "assert taps.__all__, 'no public names'\n"
        "assert set(taps.__all__) <= set(dir(taps)), 'dir() hides public names'\n"
        "for name in taps.__all__: getattr(taps, name)\n"
        "try: taps.no_such_name\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError('any name is found')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\braise NotImplementedError\b|\bfor now\b")
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:root|home|work|Users|mnt|farm)/[\w.]")


def test_the_product_is_finished_and_knows_no_machine() -> None:
    bad = []
    for name in tracked_files():
        if Path(name).suffix not in {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ""}:
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1):
            unfinished = name.startswith(PACKAGE) and UNFINISHED.search(line)
            if unfinished or (ABSOLUTE.search(line) and name != "tests/test_architecture.py"):
                bad.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not bad, failing("unfinished, or a path of one machine", bad)
