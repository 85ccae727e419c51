"""Imports go one way, and each third-party library of weight is known to one part only."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import module_table
from tools.module_table import modules

#: The part of a module -> its layer.
LAYERS = {part: layer for layer, parts in enumerate(module_table.ORDER) for part in parts}

#: Packages within a part that never import each other, in either direction.
APART = [("broker.node", "broker.publish")]

#: Packages that only the part above them imports, by name and only where it is needed: the engines
#: of the store.
ENGINES = {"store.sqlite": "store"}

#: A string that names a module of ours, or a library that is imported by its name.
NAMED = re.compile(r"appliance(\.\w+){2,}|sqlite3|pysqlite3|sqlite_utils")

#: Library -> the parts that may know it.
KNOWN_TO = {
    "pika": {"broker"},
    "sqlite3": {"store.sqlite"},
    "pysqlite3": {"store.sqlite"},
    "sqlite_utils": {"store.sqlite"},
    "flask": {"api", "console"},
    "werkzeug": {"api", "console"},
    "httptools": {"api.http", "deliver.http_client"},
    "msgspec": {"api.bodies"},
    "supervisor": {"supervision", "cli.commands.ctl"},
    "click": {"cli"},
    "pyarrow": {"cli.parquet"},
    "datasette": {"cli.exploring"},
    "yaml": {"api.openapi"},
}


def imported(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, within functions and by strings too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and NAMED.fullmatch(str(node.value)):
            yield node.value
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a thing comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_lies_below_it(name: str, path: Path):
    part = name.split(".", maxsplit=1)[0]
    assert part in LAYERS, "give a new part a layer"
    for full in imported(path):
        library, _, below = full.partition(".")
        if library != "appliance" or not below:
            continue
        other = below.split(".")[0]
        if other != part and other in LAYERS:
            assert LAYERS[other] < LAYERS[part], f"{name} imports {other}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_library_is_known_to_one_part(name: str, path: Path):
    for full in imported(path):
        library = full.split(".")[0]
        known_to = KNOWN_TO.get(library, {name})
        assert any(name == k or name.startswith(f"{k}.") for k in known_to), (
            f"{name} imports {library}"
        )


@pytest.mark.parametrize(("one", "other"), APART)
def test_packages_that_are_apart_never_import_each_other(one: str, other: str):
    checked = 0
    for name, path in modules():
        for mine, theirs in ((one, other), (other, one)):
            if name.startswith(mine):
                checked += 1
                assert not [i for i in imported(path) if i.startswith(f"appliance.{theirs}")]
    assert checked


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_an_engine_of_the_store_is_imported_by_the_store_only(name: str, path: Path):
    for engine, part in ENGINES.items():
        if name == part or name.startswith(f"{part}."):
            continue
        assert not [i for i in imported(path) if i.startswith(f"appliance.{engine}")]


def test_the_seam_of_the_store_imports_no_engine():
    for name, path in modules():
        if name.startswith("store.") and not name.startswith("store.sqlite"):
            assert not [i for i in imported(path) if i.startswith("appliance.store.sqlite")], name


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_file_of_the_database_is_named_by_its_engine_only(name: str, path: Path):
    if name.startswith("store.sqlite"):
        return
    text = path.read_text()
    assert not re.search(r"config\.database\b|\"-(wal|shm)\"|appliance\.db\b", text)


def test_the_architectures_table_of_modules_is_as_the_code_has_it():
    text = module_table.PAGE.read_text()
    assert module_table.page(text) == text, "run: python tools/module_table.py"


#: Modules that are named by their role or by what they serve, and so may have a namesake. The parts
#: of one engine of the store are named as those of the other.
NAMESAKES = (
    "base", "api.views.", "cli.commands.", "console.pages.", "store.postgresql.", "store.sql.",
)  # fmt: skip


def test_modules_have_names_of_their_own_and_none_of_the_standard_library():
    """A command and a view are named by what they serve, as their users know it."""
    seen: dict[str, str] = {}
    for name, path in modules():
        leaf = name.rpartition(".")[2]
        if path.name == "__init__.py" or leaf == "base" or name.startswith(NAMESAKES[1:]):
            continue
        assert leaf not in seen, f"{name} and {seen[leaf]}"
        assert leaf not in sys.stdlib_module_names or leaf == "__main__", name
        seen[leaf] = name


def test_public_classes_have_names_of_their_own():
    seen: dict[str, str] = {}
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in seen, f"{node.name} in {name} and in {seen[node.name]}"
                seen[node.name] = name
