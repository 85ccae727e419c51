"""The promise, explored by a machine: the real modules on a simulated broker (docs/model/).

Everything else in these tests runs on a real RabbitMQ. Here alone a simulation stands for it, so
that each step of it can be the last, in thousands of orders that no real one could be brought to.
"""

import pytest
from explored import explore
from machine import LosingBrokerMachine, PromiseMachine, WorseBrokerMachine
from mistakes import FOUND_LATE, FOUND_SOON

pytestmark = pytest.mark.usefixtures("template")

#: The machine, and what its broker is like.
MACHINES = [PromiseMachine, WorseBrokerMachine, LosingBrokerMachine]


@pytest.mark.parametrize("machine", MACHINES)
def test_each_message_that_was_answered_is_one_row_or_one_dead_letter_in_order(machine):
    """So are the ledger and the counters of the topics; in the same 60 stories each time."""
    explore(machine, examples=60, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", MACHINES)
def test_each_message_is_one_row_or_one_dead_letter_in_thousands_of_new_stories(machine):
    """About four minutes each; a story that fails is told as short as can be."""
    explore(machine, examples=3000, shrink=True)


@pytest.mark.parametrize("mistake", FOUND_SOON)
def test_a_planted_mistake_is_found(mistake):
    _find(FOUND_SOON[mistake], derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", [*FOUND_SOON, *FOUND_LATE])
def test_a_planted_mistake_is_found_in_new_stories_too(mistake):
    _find({**FOUND_SOON, **FOUND_LATE}[mistake])


def _find(mistake, **options):
    class Mistaken(PromiseMachine):
        parts = staticmethod(mistake.parts)

    with pytest.raises(AssertionError, match=mistake.shows):
        explore(Mistaken, examples=2000, **options)
