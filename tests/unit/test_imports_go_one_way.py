"""Who may import whom.

errors <- config, messages, credentials, logs, pulse <- broker, store <- worker, janitor, api,
supervision <- cli. Each third-party library of weight is known to one part only.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "appliance"

#: Part -> layer. A part may import parts of lower layers and itself.
LAYERS = {
    "errors": 0,
    "units": -1,  # the first of all
    "retention": 0,  # its rules are a setting
    "config": 1,
    "journal": 1,
    "messages": 1,
    "numbers": 1,
    "credentials": 2,  # reads the settings
    "logs": 2,
    "pulse": 2,
    "room": 2,
    "broker": 3,
    "store": 3,
    "worker": 4,
    "janitor": 4,
    "supervision": 4,
    "doctor": 5,  # looks at all of them
    "api": 5,  # shows the processes' states
    "drill": 5,  # kills them
    "cli": 6,
    "__main__": 7,
}

#: Library -> the parts that may know it.
KNOWN_TO = {
    "pika": {"broker"},
    "sqlite3": {"store"},
    "pysqlite3": {"store"},
    "sqlite_utils": {"store"},
    "flask": {"api"},
    "werkzeug": {"api"},
    "uvicorn": {"api"},
    "supervisor": {"supervision", "cli.run"},
    "click": {"cli"},
}


def modules() -> list[tuple[str, Path]]:
    """Every module with its name below the package, like `store.writer`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found.append((name, path))
    return found


def imported(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
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


def test_broker_and_store_never_import_each_other():
    assert LAYERS["broker"] == LAYERS["store"]
