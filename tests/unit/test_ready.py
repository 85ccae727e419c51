"""The notice that ends a start."""

import time

import pytest

from appliance import config as configuration
from appliance.machine.pulse import Pulse
from appliance.machine.signs import READY
from appliance.supervision.ready import ReadyNotice


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


def test_the_notice_is_written_once_and_only_when_the_api_is_ready(config):
    written = []
    now = [100.0]
    notice = ReadyNotice(config, written.append, began=90.0, clock=lambda: now[0])
    notice.look()
    with Pulse(config, "api", environ={}) as pulse:
        now[0] += 1
        notice.look()
        assert written == []
        pulse.tell(READY, True)
        pulse.ready()  # passes the sign on at once
        deadline = time.monotonic() + 20
        while not written:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            now[0] += 1
            notice.look()
        now[0] += 1
        notice.look()
    (text,) = written
    assert b"Ready after " in text
    assert b"address  http://127.0.0.1:8080\n" in text
    assert b"console  http://127.0.0.1:8080/console/ (" in text


def test_a_ready_worker_is_no_ready_appliance(config):
    written = []
    with Pulse(config, "worker", environ={}) as pulse:
        pulse.tell(READY, True)
        pulse.ready()
        time.sleep(0.2)
        ReadyNotice(config, written.append, began=0.0).look()
    assert written == []
