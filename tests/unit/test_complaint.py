"""Complaints: once for each trouble, and once when it is over."""

import structlog
from structlog.testing import capture_logs

from appliance.machine.complaint import Complaint


def complaint():
    return Complaint(structlog.get_logger(), "disk is full", "disk has room again")


def test_a_trouble_that_lasts_is_logged_once():
    with capture_logs() as lines:
        one = complaint()
        for _ in range(3):
            one.fails(error="no space")
    assert lines == [{"event": "disk is full", "log_level": "warning", "error": "no space"}]
    assert one.is_open


def test_a_trouble_of_another_kind_is_logged_too():
    with capture_logs() as lines:
        one = complaint()
        one.fails(kind="full")
        one.fails(kind="locked", level="error")
    assert [line["log_level"] for line in lines] == ["warning", "error"]


def test_the_end_of_a_trouble_is_logged_once_with_its_length():
    with capture_logs() as lines:
        one = complaint()
        one.works()
        one.fails()
        one.works()
        one.works()
        assert not one.is_open
        one.fails()
    assert [line["event"] for line in lines] == [
        "disk is full",
        "disk has room again",
        "disk is full",
    ]
    assert lines[1]["after_seconds"] == 0.0
