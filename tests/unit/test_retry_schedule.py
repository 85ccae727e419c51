"""When a delivery is tried again, and what receivers can ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.retry_schedule import JITTER, LONGEST_WISH, PAUSES, next_attempt, retry_after

NOW = 1_795_632_000.0
DAYS = 86_400.0


def attempts(lifetime, random=lambda: 0.5, wish=None):
    """Return the seconds after the first attempt at which each further one comes."""
    at, times = NOW, []
    while (later := next_attempt(len(times) + 1, at, NOW, lifetime, wish, random)) is not None:
        at = later
        times.append(at - NOW)
    return times


def test_attempts_go_on_for_days_and_come_ever_more_seldom():
    times = attempts(3 * DAYS)
    assert times[0] == 5
    assert 10 < len(times) < 20
    assert 2 * DAYS < times[-1] <= 3 * DAYS
    pauses = [b - a for a, b in zip([0, *times], times, strict=False)]
    assert pauses == sorted(pauses)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_within_its_jitter(attempt, chance):
    at = next_attempt(attempt, NOW, NOW, 1e9, None, lambda: chance)
    pause = PAUSES[min(attempt, len(PAUSES)) - 1]
    assert pause * (1 - JITTER) <= at - NOW + 1e-6
    assert at - NOW <= pause * (1 + JITTER) + 1e-6


def test_a_receiver_is_not_asked_sooner_than_it_wishes():
    assert next_attempt(1, NOW, NOW, DAYS, 600.0, lambda: 0.0) == NOW + 600
    assert next_attempt(1, NOW, NOW, DAYS, 600.0, lambda: 0.999) > NOW + 600


def test_a_delivery_is_given_up_at_the_end_of_its_life():
    assert next_attempt(3, NOW + DAYS, NOW, DAYS, None, lambda: 0.5) is None
    assert next_attempt(1, NOW, NOW, 60.0, 61.0, lambda: 0.0) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120), (b" 0 ", 0), (b"99999999999", LONGEST_WISH),
        (b"Wed, 25 Nov 2026 18:41:00 GMT", 60), (b"Wed, 25 Nov 2026 18:39:00 GMT", 0),
        (b"Wed, 25 Nov 2099 18:39:00 GMT", LONGEST_WISH),
        (b"", None), (b"-5", None), (b"1.5", None), (b"soon", None), (b"\xff", None),
        (b"9" * 65, None), (b"Wed, 99 Nov 2026 18:41:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date_within_bounds(value, seconds):
    assert retry_after(value, 1_795_632_000.0) == seconds


@given(st.binary(max_size=80))
def test_retry_after_of_any_bytes_is_none_or_within_bounds(value):
    wish = retry_after(value, NOW)
    assert wish is None or 0 <= wish <= LONGEST_WISH
