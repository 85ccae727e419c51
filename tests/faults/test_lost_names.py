"""Names that nobody knows any more: the broker's, and even `localhost`. Needs root."""

import os
import signal
import time

import pytest
from harness import START_SECONDS, Process, environment, free_port, wait_until
from name_server import NameServer, OwnNames
from network import Network, Remote

pytestmark = pytest.mark.slow

BROKER = "broker.example"
#: Seconds. Every request must be answered within this, and some slack.
PUBLISH_TIMEOUT, SLACK = 2.0, 3.0
#: Seconds for a process to end; a resolver may wait ten for a silent server.
END_SECONDS = 4.0


class Named(Remote):
    """A stack whose API and workers have the broker's name only."""

    def __init__(self, folder, network, own_names):
        super().__init__(folder, network, publish_timeout=PUBLISH_TIMEOUT)
        url = self.env["APPLIANCE_BROKER_URL"]
        for process in (self.api, *self.workers):
            process.command = [*own_names.before, *process.command]
            process.env = {
                **self.env, "APPLIANCE_BROKER_URL": url.replace(network.theirs, BROKER),
            }  # fmt: skip


@pytest.fixture
def named(tmp_path):
    network = Network()
    with NameServer() as server:
        server.known[BROKER] = network.theirs
        try:
            network.make()
            made = Named(tmp_path, network, OwnNames(tmp_path / "names", server))
            try:
                yield made.start(), network, server
            finally:
                made.close()
        finally:
            network.remove()


@pytest.mark.timeout(300)
def test_broker_whose_name_is_gone_is_told_honestly_and_nothing_is_lost(named, under_load):
    """Its connections are cut each time: while they last, no name is needed."""
    stack, network, server = named
    with under_load(stack) as load:
        for way in ("silent", "server failure", "no such name"):
            load.wait_accepted(100, START_SECONDS)
            server.way = way
            network.cut("-j", "REJECT", "--reject-with", "tcp-reset")
            refuses(load, stack)
            network.mend()
            asked = len(server.asked)
            wait_until(lambda n=asked: len(server.asked) > n, "it is asked for", 30, stack.logs)
            refuses(load, stack)
            server.way = "answers"
        load.wait_accepted(100, START_SECONDS)
    load.verify()
    assert set(load.sending.journal.answers) == {202, 503}
    assert max(attempt.seconds for attempt in load.journal) < PUBLISH_TIMEOUT + SLACK


def refuses(load, stack):
    """Wait until each sender was refused once more."""
    goal = len(load.refused) + len(load.topics)
    wait_until(lambda: len(load.refused) >= goal, "it refuses", 30, stack.logs)


@pytest.mark.parametrize("name", ["api", "worker", "janitor"])
def test_process_that_waits_for_a_name_ends_when_it_is_told_to(tmp_path, name):
    with NameServer() as server:
        server.way = "silent"
        env = environment(
            tmp_path / "data",
            APPLIANCE_BROKER_URL=f"amqp://{BROKER}",
            APPLIANCE_TOKEN="a-token-for-tests-only",
            APPLIANCE_HTTP=f"127.0.0.1:{free_port()}",
        )
        migrate = Process("migrate", env, tmp_path)
        migrate.start()
        assert migrate.popen.wait(60) == 0
        process = Process(name, env, tmp_path)
        process.command = [*OwnNames(tmp_path / "names", server).before, *process.command]
        process.start()
        try:
            wait_until(lambda: BROKER in server.asked, "it asks", 30, lambda: process.log)
            began = time.monotonic()
            assert process.stop() == 0, process.log
            assert time.monotonic() - began < END_SECONDS
        finally:
            process.kill()


def test_machine_that_knows_no_name_not_even_its_own_runs_it_all_the_same(
    appliance, under_load, tmp_path
):
    """No hosts file and a silent name server: at the start, and when broker and API are killed."""
    with NameServer() as server:
        server.way = "silent"
        own_names = OwnNames(tmp_path / "names", server)
        own_names.know("")
        one = appliance()
        one.command = [*own_names.before, *one.command]
        one.start().wait_ready()
        with under_load(one) as load:
            load.wait_accepted(100, START_SECONDS)
            before = {program: one.pid(program) for program in ("api", "broker")}
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            for program, pid in before.items():
                wait_until(
                    lambda p=program, b=pid: one.pid(p) not in (None, b),
                    f"a new {program}",
                    START_SECONDS,
                    one.logs,
                )
            load.wait_accepted(100, START_SECONDS)
        load.verify()
        assert one.end() == 0
