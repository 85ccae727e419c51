"""The tests themselves."""

import contextlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import harness

#: Prints ports that another test process has reserved, and keeps them until its input ends.
RESERVES = """
import sys, harness
print(*(harness.free_port() for _ in range(50)), *(harness.free_amqp_port() for _ in range(20)))
sys.stdout.flush()
sys.stdin.read()
"""


def test_no_two_files_of_tests_have_one_name():
    """pytest imports each by its name alone; two of one name can't run together."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_names_of_tests_begin_with_the_thing_under_test():
    """So that a name alone, in a list of failures, says what is broken."""
    pronoun = re.compile(r"def (test_(?:it|what|whatever|which|whichever|who|whoever)_\w+)")
    folder = Path(__file__).parents[1]
    names = [
        name for path in folder.rglob("test_*.py") for name in pronoun.findall(path.read_text())
    ]
    assert names == []


def test_two_test_processes_are_never_given_the_same_port(monkeypatch):
    """Though nothing listens on it yet: what a test starts needs seconds until it does."""
    other = subprocess.Popen(
        [sys.executable, "-c", RESERVES],
        env={"PYTHONPATH": f"{Path(harness.__file__).parent}:{Path(__file__).parents[2]}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with contextlib.closing(other.stdin), contextlib.closing(other.stdout):
        theirs = set(map(int, other.stdout.readline().split()))
        assert len(theirs) == 70
        monkeypatch.setattr(harness, "HTTP_PORTS", [*theirs, *range(13_000, 13_100)])
        ours = {harness.free_port() for _ in range(10)}
    other.wait(30)
    assert not ours & theirs
