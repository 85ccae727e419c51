"""The rules of leases, alone and as a state machine against a simple model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.model import leases
from appliance.model.leases import NEW, Standing

_MOST = 3


def _leased(now: int = 1000, lease: str = "a", before: Standing = NEW) -> Standing:
    granted = leases.grant(before, now, 10, lease)
    assert granted is not None
    return granted


def test_a_lease_ends_after_its_seconds_and_no_sooner():
    held = _leased()
    assert held == Standing("leased", 1, 11_000, "a")
    assert leases.settle(held, 10_999, _MOST) is held
    assert leases.settle(held, 11_000, _MOST).state == "waiting"


def test_a_leased_message_is_not_handed_out_to_another():
    assert leases.grant(_leased(), 5000, 10, "b") is None


def test_a_late_acknowledgement_counts_until_the_message_is_leased_again():
    over = leases.settle(_leased(), 20_000, _MOST)
    assert leases.may_acknowledge(over, "a")
    again = _leased(20_000, "b", over)
    assert not leases.may_acknowledge(again, "a")
    assert leases.may_acknowledge(again, "b")


@pytest.mark.parametrize("lease", ["", "b", "aa", "\u00e9"])
def test_another_lease_id_acknowledges_nothing(lease):
    assert not leases.may_acknowledge(_leased(), lease)
    assert not leases.may_acknowledge(NEW, lease)


def test_a_refused_message_waits_for_its_delay_and_its_lease_is_void():
    back = leases.refuse(_leased(), 2000, 5, "busy", _MOST)
    assert back == Standing("waiting", 1, 7000, "", "busy")
    assert leases.grant(back, 6999, 10, "b") is None
    assert leases.grant(back, 7000, 10, "b") is not None


def test_a_message_is_dead_after_its_last_attempt_and_can_be_put_back():
    dead = leases.refuse(Standing("leased", _MOST, 11_000, "c"), 2000, 5, "x" * 9999, _MOST)
    assert (dead.state, dead.until, len(dead.reason)) == ("dead", 2000, 500)
    assert leases.grant(dead, 99_000, 10, "d") is None
    assert leases.put_back(dead, 3000) == Standing("waiting", 0, 3000)
    assert leases.put_back(NEW, 3000) is None


def test_an_extension_counts_from_now_and_only_for_who_holds_the_lease():
    extended = leases.extend(_leased(), 5000, 60, "a")
    assert extended is not None
    assert extended.until == 65_000
    assert leases.extend(_leased(), 5000, 60, "b") is None
    assert leases.extend(_leased(), 11_000, 60, "a") is None


def test_ids_of_leases_are_long_and_differ():
    assert len({leases.new_lease_id(7) for _ in range(100)}) == 100
    assert len(leases.new_lease_id(7)) == 26


class Leases(RuleBasedStateMachine):
    """One message: the model knows who was given it until when, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.count, self.attempts = 0, 0, 0
        self.holder, self.ends = "", 0
        self.standing: Standing | None = NEW

    @rule(milliseconds=st.integers(1, 20_000))
    def time_passes(self, milliseconds):
        self.now += milliseconds

    @rule(seconds=st.integers(1, 10))
    def receive(self, seconds):
        if self.standing is None:
            return
        settled = leases.settle(self.standing, self.now, _MOST)
        granted = leases.grant(settled, self.now, seconds, f"lease {self.count}")
        self.standing = granted or settled
        if granted:
            assert not self.holder or self.ends <= self.now, "two valid leases at a time"
            self.holder, self.ends = granted.lease, self.now + seconds * 1000
            self.count += 1
            self.attempts += 1
            assert self.attempts <= _MOST

    @rule(mine=st.booleans())
    def acknowledge(self, mine):
        if self.standing and leases.may_acknowledge(
            self.standing, self.holder if mine else "another"
        ):
            assert mine
            self.standing = None

    @rule(delay=st.integers(0, 5))
    def refuse(self, delay):
        if self.standing and self.standing.state == "leased" and self.ends > self.now:
            self.standing = leases.refuse(self.standing, self.now, delay, "no", _MOST)
            self.holder = ""

    @rule(seconds=st.integers(1, 10))
    def extend(self, seconds):
        if self.standing and self.holder:
            longer = leases.extend(self.standing, self.now, seconds, self.holder)
            assert (longer is not None) == (self.ends > self.now)
            if longer:
                self.standing, self.ends = longer, self.now + seconds * 1000

    @rule()
    def put_back(self):
        if self.standing and (back := leases.put_back(self.standing, self.now)):
            self.standing, self.attempts, self.holder = back, 0, ""

    @invariant()
    def is_dead_or_comes_again(self):
        if self.standing is None:
            return
        later = self.now + 100_000
        settled = leases.settle(self.standing, later, _MOST)
        comes = leases.grant(settled, later, 1, "later") is not None
        assert comes == (self.attempts < _MOST)
        assert comes or settled.state == "dead"


TestLeasesAgainstTheModel = Leases.TestCase
TestLeasesAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=25)
