"""A lookout works once it is woken, again after a failure, and closes what it had at its end."""

import threading

import pytest
import structlog
from harness import wait_until

from appliance import lookout
from appliance.errors import StoreError
from appliance.lookout import Lookout
from appliance.machine.complaint import Complaint


class Counting(Lookout):
    def __init__(self):
        super().__init__(Complaint(structlog.get_logger(__name__), "it failed", "it works again"))
        self.looks = self.closed = 0
        self.wrong = False
        self.pause = 0.001

    def _look(self):
        self.looks += 1
        if self.wrong:
            raise StoreError("no database")
        return self.pause

    def _close(self):
        self.closed += 1


@pytest.fixture
def one(monkeypatch):
    """A lookout that runs in a thread."""
    monkeypatch.setattr(lookout, "_BACKOFF_FIRST", 0.001)
    made = Counting()
    made.thread = threading.Thread(target=made.run)
    made.thread.start()
    yield made
    made.stop()
    made.thread.join(10)
    assert not made.thread.is_alive()
    assert made.closed == 1


def test_a_lookout_looks_again_and_again_once_it_is_woken(one):
    assert one.looks == 0
    one.wake()
    wait_until(lambda: one.looks > 2, "it looks again")


def test_a_lookout_that_is_stopped_before_it_is_woken_never_looks(one):
    one.stop()
    one.thread.join(10)
    assert (one.looks, one.closed) == (0, 1)


def test_a_lookout_that_is_stopped_does_not_wait_for_its_next_look(one):
    one.pause = 3600
    one.wake()
    wait_until(lambda: one.looks == 1, "it looks")
    one.stop()
    one.thread.join(10)
    assert one.closed == 1


def test_a_lookout_whose_database_fails_says_so_once_and_tries_again(one):
    one.wrong = True
    with structlog.testing.capture_logs() as logs:
        one.wake()
        wait_until(lambda: one.looks > 3, "it tries again")
        one.wrong = False
        wait_until(lambda: len(logs) == 2, "it says that it works")
    assert [each["event"] for each in logs] == ["it failed", "it works again"]
