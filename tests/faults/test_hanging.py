"""What is there but does nothing is found and restarted, and nothing is lost meanwhile."""

import os
import signal
import time

import pytest
from harness import START_SECONDS, wait_until
from standstill import frozen

from appliance.broker.base import PROBE_FACT, ProbeState
from appliance.machine.signs import signs

#: Seconds; the default is 30, and every second of it is one of the test.
HANG = 5.0


def finding(one) -> dict:
    """What the probe found last."""
    facts = [sign.facts for sign in signs(one.config) if PROBE_FACT in sign.facts]
    return facts[0][PROBE_FACT] if facts else {}


def wait_found(one, state: ProbeState, seconds: float = START_SECONDS) -> dict:
    wait_until(
        lambda: finding(one).get("state") == state,
        f"the probe finds that the broker {state}",
        seconds,
        lambda: f"{finding(one)}\n{one.logs()}",
    )
    return finding(one)


def running_pid(one, program: str) -> int:
    return wait_until(lambda: one.pid(program), f"{program} runs", START_SECONDS, one.logs)


def stop_until_replaced(one, *programs: str) -> dict[str, float]:
    """SIGSTOP them; wait for new ones and return the seconds that each took."""
    before = {program: running_pid(one, program) for program in programs}
    began = time.monotonic()
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    took = {}

    def look() -> bool:
        for program in before.keys() - took.keys():
            if one.pid(program) not in (None, before[program]):
                took[program] = round(time.monotonic() - began, 1)
        return len(took) == len(before)

    wait_until(look, f"new {programs}", START_SECONDS, one.logs)
    return took


@pytest.mark.slow
def test_a_process_that_hangs_is_restarted_and_nothing_is_lost(appliance, under_load, outward):
    """Waits past the limit for each; one of the workers is the active one."""
    one = appliance(APPLIANCE_HANG_TIMEOUT=str(HANG), APPLIANCE_DELIVER_ALLOW="127.0.0.1")
    load = under_load(one.start().wait_ready(), pause=0.03)
    with outward(load) as out, load:
        took = {}
        for programs in (("api",), ("worker:worker_0",), ("worker:worker_1", "janitor", "deliver")):
            load.wait_accepted(100)
            took |= stop_until_replaced(one, *programs)
        load.wait_accepted(100, START_SECONDS)
    load.note(replaced_after=took)
    load.verify()
    out.verify()
    said = [line for line in one.log.splitlines() if "hung program restarted" in line]
    assert len(said) == len(took), said
    assert one.end() == 0


@pytest.mark.slow
def test_a_broker_that_hangs_is_killed_and_nothing_is_lost(appliance, under_load):
    """Waits past the limit, and for RabbitMQ's start."""
    one = appliance(APPLIANCE_HANG_TIMEOUT=str(HANG)).start().wait_ready()
    wait_found(one, ProbeState.SERVES)
    with under_load(one, pause=0.03) as load:
        load.wait_accepted(100)
        took = stop_until_replaced(one, "broker")["broker"]
        load.wait_accepted(100, START_SECONDS)
    load.note(replaced_after=took)
    load.verify()
    assert wait_found(one, ProbeState.SERVES)["restarts"] == 1
    assert one.log.count("hung broker killed") == 1
    assert one.end() == 0


@pytest.mark.slow
def test_an_alarm_is_no_hang(appliance):
    """Waits twice the limit: the broker's disk alarm stands from the start."""
    one = appliance(APPLIANCE_HANG_TIMEOUT=str(HANG), APPLIANCE_MIN_FREE_BYTES=str(2**49)).start()
    wait_found(one, ProbeState.BLOCKED)
    before = running_pid(one, "broker")
    until = time.monotonic() + 2 * HANG
    while time.monotonic() < until:
        assert finding(one)["state"] != ProbeState.FAILS, one.logs()
        time.sleep(0.2)
    assert finding(one)["restarts"] == 0
    assert one.pid("broker") == before
    assert one.end() == 0


@pytest.mark.slow
@pytest.mark.long
def test_a_broker_of_somebody_else_is_only_reported(appliance, broker):
    """Waits past the limit."""
    one = appliance(APPLIANCE_HANG_TIMEOUT=str(HANG), APPLIANCE_BROKER_URL=broker.url)
    one.start().wait_ready()
    wait_found(one, ProbeState.SERVES)
    with frozen(broker.process.pid):
        wait_found(one, ProbeState.FAILS)
        wait_until(lambda: not one.ready(), "not ready", more=one.logs)
        time.sleep(2 * HANG)
        assert finding(one)["restarts"] == 0
        assert broker.process.running
    one.wait_ready()
    assert one.end() == 0
