"""The tests themselves."""

from collections import Counter
from pathlib import Path


def test_no_two_files_of_tests_have_one_name():
    """pytest imports each by its name alone; two of one name can't run together."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
