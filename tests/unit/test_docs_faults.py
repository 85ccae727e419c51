"""The table of the kinds of fault in docs/durability.md, held to the tests that it names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "durability.md"
ROW = re.compile(r"\| (\d+) \| (.+?) \| `(\S+?)::(\w+)` \|")


def rows():
    """Return number, kind, file and test of each row of the section."""
    section = PAGE.read_text().split("\n## Kinds of fault\n")[1].split("\n## ")[0]
    numbered = [line for line in section.splitlines() if re.match(r"\| \d", line)]
    found = [ROW.fullmatch(line) for line in numbered]
    assert None not in found, [line for line in numbered if not ROW.fullmatch(line)]
    return [(int(match[1]), *match.groups()[1:]) for match in found]


@cache
def functions(path):
    return {
        node.name: ast.unparse(node)
        for node in ast.parse((TESTS / path).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_kinds_of_fault_are_numbered_and_each_is_named_once():
    numbers, kinds, *_ = zip(*rows(), strict=True)
    assert list(numbers) == list(range(1, len(numbers) + 1))
    named = [kind for kind in kinds if not kind.startswith("...")]
    assert len(named) == len(set(named))
    assert len(numbers) >= 60


@pytest.mark.parametrize(("path", "name"), sorted({row[2:] for row in rows()}))
def test_fault_has_the_test_that_the_docs_name(path, name):
    assert name in functions(path)
    assert "skip" not in functions(path)[name]
