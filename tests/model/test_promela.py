"""The promise as a small state machine, docs/model/promise.pml: Spin explores every order."""

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "docs" / "model" / "promise.pml"


def explore(folder, *switches):
    """Return the number of states, and what Spin says of the first error, or None."""
    for command in (
        ["spin", *switches, "-a", MODEL],
        ["gcc", "-O1", "-DSAFETY", "-o", "pan", "pan.c"],
        ["./pan", "-m100000"],
    ):
        done = subprocess.run(
            command, check=False, cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    states = int(re.search(r"(\d+) states, stored", done.stdout)[1])
    error = re.search(r"^pan:1: (.*) \(at depth", done.stdout, re.MULTILINE)
    assert f"errors: {1 if error else 0}" in done.stdout
    return states, error[1] if error else None


def test_the_promise_holds_in_every_order_of_steps(tmp_path):
    states, error = explore(tmp_path)
    assert error is None
    assert states > 100_000  # it has looked everywhere


@pytest.mark.parametrize("switch", ["-DACK_FIRST", "-DACCEPT_AT_ONCE"])
def test_a_mistake_planted_in_the_state_machine_loses_an_answered_message(tmp_path, switch):
    assert explore(tmp_path, switch)[1] == "assertion violated ( !(answered[i])||(rows[i]==1))"
