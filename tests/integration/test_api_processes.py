"""Several API processes of one appliance, started by `appliance run`, at one address."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import threading
import time
from collections import Counter

import httpx
import pytest
from harness import START_SECONDS, wait_until
from supervised import Appliance

NAMES = ["api", "api:api_1", "api:api_2"]
#: Senders that keep their connection, and those that make one for each request.
KEEPING, ONE_SHOT = 12, 4


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    one = Appliance(tmp_path_factory.mktemp("three"), APPLIANCE_API_PROCESSES="3").start()
    try:
        yield one.wait_ready()
        assert one.end() == 0
    finally:
        one.clear()


@pytest.fixture
def running(three):
    def all_run():
        return all(three.states()[name] == "RUNNING" for name in NAMES)

    wait_until(all_run, "all run", START_SECONDS, three.logs)
    wait_until(lambda: living(three) == 3, "all live", START_SECONDS, three.logs)
    return three.wait_ready()


def living(appliance):
    """How many API processes give signs of life and take messages."""
    with asking(appliance) as client:
        pulses = client.get("/v1/status").json()["pulses"]
    return sum(each["process"] == "api" and each["state"] == "ready" for each in pulses)


def asking(appliance):
    """A client whose connections are new ones, so that any process may answer."""
    return httpx.Client(
        base_url=appliance.url,
        headers={"Authorization": f"Bearer {appliance.token}", "Connection": "close"},
        timeout=30,
        trust_env=False,
    )


class Senders:
    """They send one message after another, and note each answer and each error."""

    def __init__(self, appliance, topic):
        self._host = appliance.http
        self._token = appliance.token
        self._path = f"/v1/topics/{topic}/messages"
        self._stop = threading.Event()
        self._names = itertools.count()
        self.accepted: list[str] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(True,)) for _ in range(KEEPING)]
        self._threads += [
            threading.Thread(target=self._run, args=(False,)) for _ in range(ONE_SHOT)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keeps):
        with contextlib.closing(http.client.HTTPConnection(self._host, timeout=30)) as connection:
            self._send(connection, keeps)

    def _send(self, connection, keeps):
        headers = {"Authorization": f"Bearer {self._token}"}
        if not keeps:
            headers["Connection"] = "close"
        while not self._stop.is_set():
            body = f"message {next(self._names)}"
            try:
                connection.request("POST", self._path, body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connection.close()
                continue
            if answer.status == 202:
                self.accepted.append(body)
            else:
                self.errors.append(str(answer.status))

    def more(self, count=300):
        """Wait until so many more are accepted."""
        wanted = len(self.accepted) + count
        wait_until(lambda: len(self.accepted) >= wanted, "more is accepted", 60)


def check_each_stored_once(appliance, topic, senders):
    def arrived():
        return set(senders.accepted) <= set(appliance.bodies(topic))

    wait_until(arrived, "each accepted message is a row", 60, appliance.logs)
    doubled = [body for body, n in Counter(appliance.bodies(topic)).items() if n > 1]
    assert doubled == []


def scraped(client):
    text = client.get("/metrics").text
    return int(re.search(r"^appliance_messages_accepted_total (\d+)", text, re.MULTILINE)[1])


def wait_until_shown(appliance):
    """Wait until what each process has counted by now is in its file, which it writes each second.

    The first record may hold what was read a moment before; the second does not.
    """
    folder = appliance.data / "run" / "metrics"
    pids = [appliance.pid(name) for name in NAMES]
    for _ in range(2):
        now = time.time_ns()

        def are_written(now=now):
            files = [file for pid in pids for file in folder.glob(f"api-{pid}-*")]
            return len(files) == len(pids) and all(f.stat().st_mtime_ns > now for f in files)

        wait_until(are_written, "the numbers of each process", 30, appliance.logs)


def test_status_and_doctor_show_each_process(running):
    text = running.cli("status").stdout
    assert all(re.search(rf"^  {name} +RUNNING", text, re.MULTILINE) for name in NAMES), text
    assert "in use by this appliance, by 3 API processes" in running.cli("doctor").stdout


def test_connections_are_spread_over_the_processes_each_with_a_source_of_its_own(running):
    sources = running.data / "sources"
    with Senders(running, "spread") as senders:
        wait_until(lambda: len(list(sources.glob("*"))) >= 3, "three records", 30)
        senders.more()
    assert senders.errors == []
    check_each_stored_once(running, "spread", senders)
    rows = running.query("SELECT * FROM sources")
    assert len(rows) >= 3


@pytest.mark.parametrize("name", ["api", "api:api_2"])
def test_a_restart_of_one_process_under_load_is_no_error_to_anybody(running, name):
    topic = f"restarted.{name.replace(':', '.')}"
    with Senders(running, topic) as senders:
        senders.more()
        before = running.pid(name)
        running.ctl("restart", name)
        wait_until(lambda: running.pid(name) not in (None, before), "a new process", 30)
        senders.more()
    assert senders.errors == []
    check_each_stored_once(running, topic, senders)


def test_a_process_that_is_killed_under_load_loses_nothing_and_the_others_go_on(running):
    with Senders(running, "killed") as senders, asking(running) as client:
        senders.more()
        counts = [scraped(client)]
        before = running.pid("api:api_1")
        os.kill(before, signal.SIGKILL)
        until = time.monotonic() + 30
        while running.pid("api:api_1") in (None, before):
            assert time.monotonic() < until, running.logs()
            try:
                counts.append(scraped(client))
            except httpx.TransportError:  # it was at the one that is killed
                continue
            senders.more(10)
        senders.more()
    # Only those that were at that process saw its end.
    assert len(senders.errors) <= KEEPING + ONE_SHOT
    check_each_stored_once(running, "killed", senders)
    with asking(running) as client:
        counts += [scraped(client) for _ in range(20)]
    assert counts == sorted(counts)


def test_counters_are_the_sum_of_all_processes_at_each_of_them(running):
    with asking(running) as client:
        wait_until_shown(running)
        before = scraped(client)
        for number in range(60):
            answer = client.post("/v1/topics/counted/messages", content=f"{number}")
            assert answer.status_code == 202
        wait_until_shown(running)
        assert {scraped(client) for _ in range(20)} == {before + 60}
        status = client.get("/v1/status").json()
        assert status["broker"]["oldest_seconds"] is not None


def test_a_token_counts_at_each_process_when_it_is_made_and_at_none_when_it_is_revoked(running):
    with asking(running) as client:
        for number in range(5):
            wish = {"name": f"till-{number}", "rights": ["publish"]}
            token = client.post("/v1/tokens", json=wish).json()["token"]
            headers = {"Authorization": f"Bearer {token}"}

            def statuses(headers=headers):
                path = "/v1/topics/tills/messages"
                return {client.post(path, content="x", headers=headers).status_code
                        for _ in range(12)}  # fmt: skip

            assert statuses() == {202}
            assert client.delete(f"/v1/tokens/till-{number}").status_code in (200, 204)
            assert statuses() == {401}


def test_a_link_signs_in_once_at_whichever_process_made_it(running):
    for _ in range(6):
        with asking(running) as client:
            made = client.post("/v1/login-links").json()["path"]
        code = made.partition("#login=")[2]
        with httpx.Client(
            base_url=running.url,
            headers={"Connection": "close", "Origin": running.url},
            trust_env=False,
        ) as browser:

            def sign_in(browser=browser, code=code):
                page = browser.get("/console/login").text
                fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
                return browser.post("/console/login", data={**fields, "code": code})

            assert sign_in().status_code == 303
            statuses = {browser.get("/console/").status_code for _ in range(12)}
            assert statuses == {200}
            browser.cookies.clear()
            assert sign_in().status_code == 403


def test_a_check_that_one_process_makes_is_known_to_all(running):
    with asking(running) as client:
        began = client.post("/v1/verify").json()
        assert began["begun"] or began["running"]
        wait_until(lambda: client.get("/v1/verify").json()["running"] is None, "it has ended", 60)
        lasts = {client.get("/v1/verify").json()["last"]["ended_at"] for _ in range(20)}
        assert len(lasts) == 1


def test_other_numbers_of_processes_take_a_restart(tmp_path):
    one = Appliance(tmp_path, APPLIANCE_API_PROCESSES="2").start()
    try:
        one.wait_ready()
        assert [name for name in one.states() if name.startswith("api")] == NAMES[:2]
        one.publish("kept", "before")
        assert one.end() == 0
        one.settings["APPLIANCE_API_PROCESSES"] = "1"
        one.start().wait_ready()
        assert [name for name in one.states() if name.startswith("api")] == NAMES[:1]
        one.stored("kept", "before")
        assert one.end() == 0
    finally:
        one.clear()


def test_a_second_appliance_on_the_same_address_is_refused(running, tmp_path):
    other = Appliance(tmp_path, APPLIANCE_API_PROCESSES="3", APPLIANCE_HTTP=running.http)
    done = other.cli("run")
    other.clear()
    assert done.returncode == 78, done.stderr
    assert "APPLIANCE_HTTP" in done.stderr
