"""Consumers of the real processes: they share a subscription, and no kill makes them miss one."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import wait_until
from load import Load

CONSUMERS = 3


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=2)


def call(stack, method, path, **options):
    return httpx.request(
        method,
        f"{stack.url}/v1/subscriptions{path}",
        headers=dict(stack.client.headers),
        timeout=70,
        trust_env=False,
        **options,
    )


def make(stack, name, **wanted):
    answer = call(stack, "POST", "", json={"name": name, **wanted})
    assert answer.status_code == 201, answer.text


class Consumer:
    """Receives, writes each message into its journal, and then acknowledges: until it is told.

    An answer that did not come leaves everything as it may be: it just asks again.
    """

    def __init__(self, stack, name, journal, over):
        self.stack, self.name, self.journal, self.over = stack, name, journal, over

    def run(self):
        while not self.over.is_set():
            try:
                self._once()
            except httpx.TransportError:
                time.sleep(0.05)

    def _once(self):
        answer = call(self.stack, "POST", f"/{self.name}/receive?wait=2&limit=50&lease=5")
        if answer.status_code == 503:
            time.sleep(0.05)
            return
        assert answer.status_code == 200, answer.text
        messages = answer.json()["messages"]
        self.journal.extend(each["id"] for each in messages)
        if messages:
            body = {"leases": [each["lease"] for each in messages]}
            answer = call(self.stack, "POST", f"/{self.name}/ack", json=body)
            assert answer.status_code in (200, 503), answer.text


def test_no_message_is_missed_while_the_api_and_the_workers_are_killed(running):
    make(running, "killed", topics=["killed-*"])
    journal, over = [], threading.Event()
    with ThreadPoolExecutor(CONSUMERS) as pool:
        consumers = [
            pool.submit(Consumer(running, "killed", journal, over).run) for _ in range(CONSUMERS)
        ]
        try:
            with Load(running, "killed", senders=2, rate=100) as load:
                for process in (running.api, running.workers[0], running.api, running.workers[1]):
                    before = len(journal)
                    wait_until(lambda n=before: len(journal) > n, "received", 60, running.logs)
                    load.wait_accepted(20)
                    process.kill()
                    process.start()
                load.wait_accepted(20)
            load.verify()
            stored = {
                row["id"]
                for topic in load.topics
                for row in running.query("SELECT id FROM messages WHERE topic = ?", topic)
            }
            wait_until(lambda: stored <= set(journal), "all are received", 60, running.logs)
            wait_until(lambda: _is_done(running, "killed"), "all are acknowledged", 60)
        finally:
            over.set()
        for each in consumers:
            each.result()
    assert set(journal) == stored


def _is_done(stack, name):
    shown = call(stack, "GET", f"/{name}").json()
    assert shown["dead"] == 0
    return shown["lag"] + shown["leased"] + shown["waiting"] == 0


def test_two_consumers_share_a_subscription_and_a_killed_one_loses_nothing(running):
    """One takes messages and ends without a word; the other one gets them when the lease is over.

    What fails each time is dead in the end, and all of this survives a kill of the API.
    """
    make(running, "shared", topics=["shared"], lease_seconds=1, max_attempts=3)
    for n in range(4):
        assert running.publish("shared", f"{n}").status_code == 202
    running.wait_rows(4, "shared")
    first = call(running, "POST", "/shared/receive?limit=2").json()["messages"]
    running.api.kill()
    running.api.start()
    running.wait_ready()
    seen = Counter()
    deadline = time.monotonic() + 60
    while call(running, "GET", "/shared").json()["dead"] < 1:
        assert time.monotonic() < deadline, "it is never given up"
        for each in call(running, "POST", "/shared/receive?wait=2").json()["messages"]:
            seen[each["body"]] += 1
            action = "nack" if each["body"] == "0" else "ack"
            call(running, "POST", f"/shared/{action}", json={"leases": [each["lease"]]})
    assert [each["body"] for each in first] == ["0", "1"]
    assert seen == {"0": 2, "1": 1, "2": 1, "3": 1}
    (dead,) = call(running, "GET", "/shared/dead-letters").json()["dead_letters"]
    assert (dead["body"], dead["attempts"]) == ("0", 3)


def test_a_consumer_that_waits_is_answered_soon_after_the_row_is_there(running):
    """The times of the rows and of the answers are one clock's; a loaded machine takes longer."""
    make(running, "soon", topics=["soon"])
    with ThreadPoolExecutor(1) as pool:
        times = []
        for n in range(5):
            waiting = pool.submit(call, running, "POST", "/soon/receive?wait=30")
            sent = time.monotonic()
            assert running.publish("soon", f"{n}").status_code == 202
            (message,) = waiting.result().json()["messages"]
            times.append(time.monotonic() - sent)
            call(running, "POST", "/soon/ack", json={"leases": [message["lease"]]})
    print("seconds from sending to receiving:", [round(each, 3) for each in times])
    assert min(times) < 2


def test_the_commands_make_a_subscription_and_print_its_messages(running):
    made = running.cli("subscription", "create", "cli", "--topic", "cli", "--attempts", "2")
    assert made.returncode == 0, made.stderr
    for n in range(3):
        running.publish("cli", f"line {n}")
    running.wait_rows(3, "cli")
    kept = running.cli("receive", "cli", "--once", "--keep", "--limit", "1", "--lease", "1")
    done = running.cli("receive", "cli", "--once")
    assert (kept.returncode, done.returncode) == (0, 0), (kept.stderr, done.stderr)
    lines = [json.loads(line) for line in (kept.stdout + done.stdout).splitlines()]
    assert {line["body"] for line in lines} == {"line 0", "line 1", "line 2"}
    assert b"cli" in running.cli("subscription", "list").stdout
    shown = json.loads(running.cli("subscription", "show", "cli", "--json").stdout)
    assert (shown["topics"], shown["max_attempts"], shown["lag"]) == (["cli"], 2, 0)
    for command in (("show", "nil"), ("remove", "nil")):
        assert running.cli("subscription", *command).returncode == 1
    assert running.cli("receive", "nil", "--once").returncode == 1
    assert running.cli("subscription", "remove", "cli").returncode == 0
    assert call(running, "GET", "/cli").status_code == 404
