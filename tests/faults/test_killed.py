"""kill -9 of each process of a whole appliance, of all at once, and in storms; all under load."""

import os
import random
import signal
import threading
import time

import pytest
from harness import START_SECONDS, wait_until
from supervised import in_session
from ways import UNHANDLED, Way

from appliance.drill.kill import Killer
from appliance.supervision import processes

#: Seconds of a storm in CI, and of the long one.
SHORT_STORM, LONG_STORM = 30, 600
#: What a storm kills.
STORMED = ("broker", "worker", "api", "janitor", "listener", "deliver", "handle")
#: Every way of sending. The last one's topic alone has a handler, which cuts its arrays.
WAYS = (*UNHANDLED, Way.HANDLED)


@pytest.fixture(scope="module")
def shared(module_appliance):
    """Deliveries, leases and handlers are all on."""
    settings = {
        "APPLIANCE_DELIVER_ALLOW": "127.0.0.1",
        "APPLIANCE_HANDLERS": f"*-{len(WAYS) - 1}=appliance.split_handler:split",
        # Each kill is a failure of the messages that the process had.
        "APPLIANCE_HANDLER_ATTEMPTS": "100",
    }
    return module_appliance(**settings).start().wait_ready()


def kill(one, program):
    """kill -9 a program; wait until supervisord has a new one."""
    before = wait_until(lambda: one.pid(program), f"{program} runs", START_SECONDS, one.logs)
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: one.pid(program) not in (None, before), f"a new {program}", START_SECONDS, one.logs
    )


@pytest.mark.parametrize(
    ("program", "kills"), [("worker:worker_0", 3), ("api", 3), ("broker", 1), ("deliver", 3)]
)
def test_a_process_killed_under_load_comes_back_and_nothing_is_lost(
    running, under_load, outward, program, kills
):
    load = under_load(running)
    with outward(load) as out, load:
        for _ in range(kills):
            load.wait_accepted(200, START_SECONDS)
            kill(running, program)
        load.wait_accepted(200, START_SECONDS)
    load.note(kills=kills)
    load.verify()
    out.verify()
    load.note(kills=kills, came_again=out.repeated())


def test_supervisord_killed_under_load_is_started_again_and_nothing_is_lost(running, under_load):
    """It is the same process as `appliance run`: what a terminal or a container engine started."""
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.popen.kill()
        running.popen.wait()
        running.start()  # waits until the programs of the one before have ended
        running.wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_everything_killed_at_once_under_load_loses_nothing(running, under_load, outward):
    """As the kernel does it when a container's memory is used up, or an engine with `kill`."""
    load = under_load(running, senders=len(WAYS), ways=WAYS)
    with outward(load) as out, load:
        for _ in range(2):
            load.wait_accepted(200, START_SECONDS)
            kill_all(running)
            running.start().wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.note(kills=2)
    load.verify()
    out.verify()


def kill_all(one):
    """kill -9 supervisord and every program, without a pause between them."""
    while left := in_session(one.session):
        for pid, _ in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    one.popen.wait()


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(SHORT_STORM, marks=pytest.mark.timeout(SHORT_STORM + 300)),
        pytest.param(LONG_STORM, marks=[pytest.mark.long, pytest.mark.timeout(LONG_STORM + 600)]),
    ],
)
def test_a_storm_of_random_kills_loses_nothing(running, under_load, outward, seconds):
    """Every program, helpers too, in random order; the long one also kills everything at once."""
    # The long one at full speed: beside the short one others have the cores.
    pause = {} if seconds == SHORT_STORM else {"pause": 0.002}
    load = under_load(running, senders=len(WAYS), ways=WAYS, **pause)
    with outward(load) as out, load:
        killer = Killer(
            lambda: running_pids(running),
            lambda: load.sending.journal.accepted,
            STORMED,
        )
        end, floods = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            storm(killer, min(60.0, end - time.monotonic()))
            if seconds == LONG_STORM:
                kill_all(running)
                floods += 1
                running.start().wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.note(kills=dict(killer.kills), all_at_once=floods)
    assert set(killer.kills) == set(STORMED)
    load.verify()
    out.verify()


def running_pids(one):
    """Return what runs, and has been for long enough not to be given up: name -> pid."""
    found = processes.read(one.config)
    return {state.name: state.pid for state in found if state.state == "RUNNING" and state.pid}


def storm(killer, seconds):
    stop = threading.Event()
    thread = threading.Thread(target=killer.run, args=(stop,))
    thread.start()
    time.sleep(seconds)
    stop.set()
    thread.join()


def test_a_new_data_folder_killed_in_its_first_second_of_accepting_loses_nothing(
    appliance, under_load
):
    """Nothing may be accepted until the queue itself would survive."""
    one = appliance().start()
    with under_load(one) as load:
        load.wait_accepted(1, START_SECONDS)
        time.sleep(random.uniform(0, 0.3))
        kill_all(one)
        one.start().wait_ready()
        load.wait_accepted(100, START_SECONDS)
    load.verify()
    assert one.end() == 0
