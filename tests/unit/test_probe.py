"""When a broker that fails is restarted, and which process is killed for it."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from harness import free_port

from appliance import config as configuration
from appliance.broker.base import ProbeState
from appliance.broker.node import process as node_process
from appliance.broker.probe import Judge, Probe
from appliance.errors import NodeError

LIMIT = 30.0

#: A process that holds the node's lock as the node does.
HOLDS = """
import os, sys
from pathlib import Path
from appliance.machine import locks
os.chdir(sys.argv[1])
lock = locks.open_file(Path("lock"))
locks.take(lock)
locks.write_pid(lock)
os.chdir(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


class Looks:
    def __init__(self):
        self.judge = Judge(LIMIT)
        self.now = 1000.0

    def find(self, state: ProbeState, times: int, seconds: float = 5.0) -> list[int]:
        """Return at which of the looks it is to be restarted, from 1."""
        restarts = []
        for number in range(1, times + 1):
            self.now += seconds
            if self.judge.restart(self.now, state):
                restarts.append(number)
        return restarts


@pytest.fixture
def looks():
    made = Looks()
    made.find(ProbeState.SERVES, 1)
    return made


def test_a_broker_that_fails_past_the_limit_is_restarted(looks):
    assert looks.find(ProbeState.FAILS, 6) == [6]


def test_a_restart_that_did_not_help_is_repeated_after_twice_the_time(looks):
    assert looks.find(ProbeState.FAILS, 6 + 12 + 24) == [6, 18, 42]
    looks.find(ProbeState.SERVES, 1)
    assert looks.find(ProbeState.FAILS, 6) == [6]


@pytest.mark.parametrize("state", [ProbeState.SERVES, ProbeState.BLOCKED, ProbeState.AWAY])
def test_a_failure_that_is_no_hang_begins_the_count_anew(looks, state):
    assert looks.find(state, 100) == []
    assert looks.find(ProbeState.FAILS, 5) == []
    looks.find(state, 1)
    assert looks.find(ProbeState.FAILS, 5) == []


def test_a_broker_that_starts_has_four_times_as_long_to_answer():
    assert Looks().find(ProbeState.FAILS, 1 + 24 + 24) == [25, 49]


def test_a_broker_that_was_away_has_as_long_again_until_it_serves(looks):
    looks.find(ProbeState.AWAY, 1)
    assert looks.find(ProbeState.FAILS, 23) == []
    looks.find(ProbeState.SERVES, 1)
    assert looks.find(ProbeState.FAILS, 6) == [6]


def test_a_broker_that_starts_and_serves_all_but_the_queue_is_restarted_past_the_limit():
    looks = Looks()
    for number in range(1, 8):
        looks.now += 5.0
        assert looks.judge.restart(looks.now, ProbeState.FAILS, trouble=True) == (number == 7)


def test_time_in_which_the_probe_was_stopped_too_counts_little(looks):
    assert looks.find(ProbeState.FAILS, 1, seconds=3600) == []


@pytest.fixture
def config(tmp_path):
    (tmp_path / "broker").mkdir()
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


def holder(config, folder) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(config.data / "broker"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_process_that_holds_the_lock_is_killed(config):
    with holder(config, config.data / "broker") as process:
        assert node_process.kill(config) == process.pid
        assert process.wait(20) == -signal.SIGKILL


def test_no_process_is_killed_where_nobody_holds_the_lock(config):
    with holder(config, config.data / "broker") as process:
        process.kill()
    with pytest.raises(NodeError, match="no node runs"):
        node_process.kill(config)


def test_a_process_that_works_elsewhere_is_not_killed(config, tmp_path):
    with holder(config, "/") as process:
        with pytest.raises(NodeError, match=f"process {process.pid} is not the node"):
            node_process.kill(config)
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_folder_without_a_node_is_said(config):
    with pytest.raises(NodeError, match="No such file"):
        node_process.kill(config)


def knock(config, open_ports: int, shut_ports: int):
    """Return how a probe sees a broker of that many addresses that answer no AMQP, or nothing."""

    async def body():
        async with contextlib.AsyncExitStack() as stack:
            ports = [free_port() for _ in range(shut_ports)]
            for _ in range(open_ports):
                server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0)
                await stack.enter_async_context(server)
                ports.append(server.sockets[0].getsockname()[1])
            urls = ",".join(f"amqp://127.0.0.1:{port}" for port in ports)
            probe = Probe(replace(config, broker_url=urls), lambda _: None)
            return await probe._look()

    return asyncio.run(body())


def test_a_cluster_of_which_every_address_is_closed_is_away(config):
    state, reason = knock(config, 0, 2)
    assert state is ProbeState.AWAY
    assert reason.startswith("no connection: ")


def test_a_cluster_that_takes_connections_anywhere_and_serves_nowhere_fails(config):
    assert knock(config, 1, 1) == (
        ProbeState.FAILS, "it takes connections, but it answers no AMQP",
    )  # fmt: skip


def test_a_broker_whose_name_has_no_address_is_away(config):
    probe = Probe(replace(config, broker_url="amqp://nobody.invalid"), lambda _: None)
    state, reason = asyncio.run(probe._look())
    assert state is ProbeState.AWAY
    assert "nobody.invalid has no address" in reason
