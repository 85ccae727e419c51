"""The notice that ends a start."""

import subprocess
import sys
import time

import pytest
from harness import wait_until

from appliance import config as configuration
from appliance.machine.pulse import Pulse
from appliance.machine.signs import READY, signs
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


def test_the_appliance_is_ready_when_each_of_its_api_processes_is(tmp_path):
    settings = {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_API_PROCESSES": "2"}
    config = configuration.load(settings)
    written = []
    source = """
import sys
from appliance import config
from appliance.machine.pulse import Pulse
from appliance.machine.signs import READY
with Pulse(config.load({"APPLIANCE_DATA": sys.argv[1]}), "api", environ={}) as pulse:
    pulse.tell(READY, True)
    sys.stdin.read()
"""
    with Pulse(config, "api", environ={}) as pulse:
        pulse.tell(READY, True)
        wait_until(lambda: any(sign.facts for sign in signs(config)), "the first is ready")
        notice = ReadyNotice(config, written.append, began=0.0)
        notice.look()
        assert written == []
        with subprocess.Popen(
            [sys.executable, "-c", source, str(tmp_path)], stdin=subprocess.PIPE
        ) as other:
            wait_until(lambda: notice.look() or written, "the second is ready too")
            other.stdin.close()
