"""Writes the table of modules into docs/architecture.md, from the modules' own docstrings.

    python tools/module_table.py

The order of the parts is written here once; tests/unit/test_imports_go_one_way.py holds the imports
and the table to it.
"""

import ast
import textwrap
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "appliance"
PAGE: Final = ROOT / "docs" / "architecture.md"
BEGIN: Final = "<!-- modules: written by tools/module_table.py -->"
END: Final = "<!-- end of modules -->"

#: The parts, lowest first; those of one line don't know each other. A part may import the parts of
#: the lines above its own, and itself.
ORDER: Final = [
    ["errors"],
    ["model", "handler"],
    ["config", "split_handler"],
    ["machine", "logs"],
    ["credentials", "lookout"],
    ["broker", "store"],
    [
        "auth",
        "delayed_mover",
        "deletion",
        "metrics",
        "readiness",
        "redrive",
        "replay_copier",
        "schemas",
    ],
    ["proofs"],
    ["alerts", "history", "worker", "janitor", "deliver", "handle"],
    ["supervision"],
    ["client"],
    ["operations", "canary"],
    ["console"],
    ["api"],
    ["doctor", "drill"],
    ["cli"],
    ["__main__"],
]


def modules() -> list[tuple[str, Path]]:
    """Return every module with its name below the package, like `store.base`."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            names.append((name, path))
    return names


def purpose(path: Path) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split()).removesuffix(".")


def table() -> str:
    """Return the section about the modules, in Markdown."""
    lines: list[str] = []
    below: list[str] = []
    for parts in ORDER:
        for part in parts:
            inside = [
                (name, path) for name, path in modules() if name.split(".", maxsplit=1)[0] == part
            ]
            imports = ", ".join(f"`{other}`" for other in below) or "nothing of ours"
            lines += [f"### `{part}`", "", *textwrap.wrap(f"May import: {imports}.", 100), ""]
            lines += ["| module | purpose |", "|---|---|"]
            for _, path in inside:
                shown = path.relative_to(PACKAGE).as_posix().removesuffix("/__init__.py")
                lines.append(f"| `{shown}` | {purpose(path)} |")
            lines.append("")
        below += parts
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with its section about the modules as it must be.

    Raises ValueError where the page has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
