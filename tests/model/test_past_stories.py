"""Stories in which a check failed once, as the machine told them; each is held to since.

Most broke the promise. The last one was right, and the check was not.
"""

import random

import pytest
from machine import LosingBrokerMachine, PromiseMachine

pytestmark = pytest.mark.usefixtures("template")


def stopped_as_its_connection_breaks(state):
    """Its last report met a link that was just ending: the stop failed, and it went on."""
    state.begin(own_broker=False, workers=1, seconds=3.0)
    state.post_and_wait(topic="a", which=0)
    state.process_is_stopped(which=0)
    state.broker_crashes(heard=0, on_disk=0, starts_again=False)
    state.one_moves(most=1, move="the client hears", which=0)


def stopped_with_an_envelope_that_was_given_up(state):
    """It ended without a word of what it had sent and nobody was promised."""
    state.begin(own_broker=False, workers=1, seconds=0.0)
    state.all_is_mended(apis=1, seconds=2.1, workers=1)
    state.broker_loses(topic="a", which=0)
    state.nothing_moves(seconds=6.0)
    state.broker_crashes(heard=0, on_disk=0, starts_again=False)


def redriven_letter_that_the_broker_loses(state):
    """The ledger missed its envelope, as it must; the check looked for the letter's own id."""
    state.begin(own_broker=False, workers=1, seconds=0.0)
    state.queue_is_full(seconds=2.1, topic="a", which=0)
    state.post_with_a_bad_line(topic="a", which=0)
    state.flow(seconds=0.0)
    state.commits_go_wrong(end="it stays so", fault="fails", seconds=0.0, topic="a", which=0)
    state.redrive(letter=0, which=0)
    state.flow(seconds=0.0)
    state.broker_crashes_under_load(heard=0, on_disk=0, seconds=0.0, topic="a", which=0)
    state.broker_loses(topic="a", which=0)
    state.broker_loses(topic="a", which=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("machine", "story"),
    [
        (PromiseMachine, stopped_as_its_connection_breaks),
        (LosingBrokerMachine, stopped_with_an_envelope_that_was_given_up),
        (LosingBrokerMachine, redriven_letter_that_the_broker_loses),
    ],
)
def test_story_that_failed_once_holds(machine, story, seed):
    """The pauses between two attempts to connect are random."""
    random.seed(seed)
    state = machine()
    try:
        story(state)
    finally:
        state.teardown()
