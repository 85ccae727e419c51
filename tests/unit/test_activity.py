"""What the API tells by itself: that it is ready, and what it stores."""

import time

import pytest
from structlog.testing import capture_logs

from appliance import config as configuration
from appliance.api import activity
from appliance.errors import StoreError
from appliance.machine.pulse import Pulse
from appliance.machine.signs import READY, signs


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


def wait_for(check):
    end = time.monotonic() + 20
    while not (value := check()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def is_told(config):
    return any(sign.facts.get(READY) for sign in signs(config))


def test_readiness_is_told_once_it_is_there(config):
    ready = []
    with (
        capture_logs() as logs,
        Pulse(config, "api", environ={}) as pulse,
        activity.running(pulse, lambda: bool(ready), None),
    ):
        time.sleep(0.5)
        assert not is_told(config)
        ready.append(True)
        wait_for(lambda: is_told(config))
        wait_for(lambda: [entry["event"] for entry in logs] == ["appliance ready"])


def test_new_messages_are_told_by_topic_with_nothing_about_what_was_there(config):
    answers = [{"orders": 100}, StoreError("locked"), {"orders": 109, "readings": 3}]

    def count():
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, StoreError):
            raise answer
        return answer

    with (
        capture_logs() as logs,
        Pulse(config, "api", environ={}) as pulse,
        activity.running(pulse, lambda: True, count),
    ):
        wait_for(lambda: logs)
    assert logs == [
        {
            "event": "messages stored", "log_level": "info",
            "count": 12, "topics": "orders 9, readings 3",
        }
    ]  # fmt: skip


def test_time_from_the_answer_to_the_row_is_told_where_it_is_known(config):
    counts = iter([{"a": 1}, {"a": 3}, *[{"a": 4}] * 100])
    lags = iter([(1.0, 10.0), (1.08, 20.0), *[(1.08, 20.0)] * 100])
    with (
        capture_logs() as logs,
        Pulse(config, "api", environ={}) as pulse,
        activity.running(pulse, lambda: True, lambda: next(counts), lambda: next(lags)),
    ):
        wait_for(lambda: len(logs) == 2)
    assert [entry.get("after") for entry in logs] == ["8 ms", None]
    assert activity.mean((0.0, 0.0), (100.0, 5.0)) == "20 s"


def test_a_topic_that_retention_made_smaller_is_no_activity():
    assert activity.increases({"a": 5, "b": 1}, {"a": 2, "b": 1}) == {}
    assert activity.increases({}, {"a": 2}) == {"a": 2}


def test_a_line_names_a_few_topics_and_counts_the_others():
    counts = {f"t{n}": n for n in range(1, 8)}
    assert activity.in_words(counts) == "t7 7, t6 6, t5 5, t4 4, t3 3, 2 more 3"
