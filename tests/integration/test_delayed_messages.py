"""Delayed messages, and those with an end, through the real queue and workers that are killed."""

import json
import threading
import time

import pytest
from harness import wait_until

MANY = 3000
FAR = "2099-01-01T00:00:00.000Z"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=2)


def waiting(stack):
    return stack.get("/v1/delayed").json()["delayed"]


def test_a_delayed_message_is_on_disk_at_once_and_a_row_when_it_is_due(running):
    answer = running.publish("later", b"call back", {"delay": "3s"}, Prefer="wait=20")
    told = answer.json()
    assert (answer.status_code, told["status"]) == (202, "delayed")
    row = wait_until(lambda: waiting(running), "it waits", 20, running.logs)[0]
    assert (row["id"], row["due_at"], row["bytes"]) == (told["id"], told["due_at"], 9)
    shown = running.get(f"/v1/messages/{told['id']}").json()
    assert (shown["status"], shown["due_at"]) == ("delayed", told["due_at"])
    assert running.count("later") == 0
    running.wait_rows(1, "later")
    stored = running.get(f"/v1/messages/{told['id']}").json()
    assert (stored["status"], stored["body"]) == ("stored", "call back")
    assert stored["received_at"] >= told["due_at"]
    assert stored["meta"]["accepted_at"] == told["received_at"]
    assert waiting(running) == []


def test_the_same_delay_is_counted_from_each_request(running):
    """A request's head that comes again is not read again, where it says the same each time."""
    first = running.publish("again", b"1", {"delay": "1d"}).json()
    time.sleep(0.01)
    second = running.publish("again", b"2", {"delay": "1d"}).json()
    assert second["due_at"] > first["due_at"]
    wait_until(lambda: len(waiting(running)) == 2, "both wait", 20, running.logs)
    for each in (first, second):
        assert running.client.delete(f"/v1/delayed/{each['id']}").status_code == 204
    assert running.client.delete(f"/v1/delayed/{first['id']}").status_code == 404
    assert waiting(running) == []
    (entry, _) = [
        each
        for each in running.get("/v1/audit").json()["audit"]
        if each["action"] == "delayed-cancel"
    ]
    assert entry["target"] == second["id"]


def test_a_time_that_is_over_delays_nothing(running):
    answer = running.publish("past", b"x", {"deliver-at": "2020-01-01"}, Prefer="wait=20")
    assert (answer.status_code, answer.json()["status"]) == (201, "stored")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"delay": "soon"}, "expected a span"),
        ({"deliver-at": "10m"}, "expected a span such as"),
        ({"delay": "10m", "deliver-at": "2099-01-01"}, "one of them"),
        ({"deliver-at": "2999-01-01"}, "366 days at most"),
    ],
)
def test_a_delay_that_can_t_be_read_is_refused_with_words(running, asked, words):
    answer = running.publish("odd", b"x", asked)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


def test_delayed_messages_become_rows_once_whichever_worker_is_killed(running):
    lines = b"".join(b"%d\n" % number for number in range(MANY))
    told = running.publish("killed", lines, {"split": "lines", "delay": "2s"})
    assert told.json()["status"] == "delayed", told.text
    for worker in running.workers * 2:
        worker.kill()
        worker.start()
        time.sleep(0.7)
    running.wait_rows(MANY, "killed")
    bodies = [int(row["body"]) for row in running.rows("killed")]
    assert sorted(bodies) == list(range(MANY))
    verified = running.cli("verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_the_commands_send_list_and_cancel_delayed_messages(running):
    sent = running.cli("publish", "cli", "hello", "--delay", "2d")
    assert sent.returncode == 0, sent.stderr
    name = sent.stdout.decode().strip()
    wait_until(lambda: waiting(running), "it waits", 20, running.logs)
    listed = running.cli("delayed", "list", "--json").stdout.decode()
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [name]
    assert name in running.cli("delayed", "list").stdout.decode()
    assert "\ndue " in running.cli("show", name).stdout.decode()
    cancelled = running.cli("delayed", "cancel", name)
    assert (cancelled.returncode, cancelled.stderr) == (0, b"1 message cancelled\n")
    assert b"no message waits" in running.cli("delayed", "list").stderr
    assert running.cli("delayed", "cancel", name).returncode == 1


def listed(stack, topic):
    page = stack.get(f"/v1/topics/{topic}/messages").json()
    return [each["body"] for each in page["messages"]]


def test_a_message_is_read_until_it_is_over_and_not_found_after_that(running):
    told = running.publish("codes", b"493117", {"ttl": "4s"}, Prefer="wait=20")
    assert told.status_code == 201, told.text
    running.publish("codes", b"lasting", Prefer="wait=20")
    assert listed(running, "codes") == ["lasting", "493117"]
    address = f"/v1/messages/{told.json()['id']}"
    assert running.get(address).json()["meta"]["expires_at"] == told.json()["expires_at"]
    wait_until(lambda: running.get(address).status_code == 404, "it is over", 20, running.logs)
    assert listed(running, "codes") == ["lasting"]
    assert running.get("/v1/messages?q=493117").json()["messages"] == []
    exported = running.cli("export", "codes")
    assert [json.loads(line)["body"] for line in exported.stdout.splitlines()] == ["lasting"]
    assert running.cli("verify").returncode == 0


def test_messages_of_many_senders_that_share_envelopes_have_each_its_own_end(running):
    told = {}

    def send(sender):
        for number in range(20):
            ends = {"ttl": f"{1 + (sender + number) % 5}h"} if number % 3 else {}
            answer = running.publish(f"ends-{sender % 2}", f"{sender} {number}", ends).json()
            told[answer["id"]] = answer.get("expires_at")

    senders = [threading.Thread(target=send, args=(n,)) for n in range(12)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(told) == 240
    rows = (
        "SELECT id, expires_at FROM messages LEFT JOIN expirations USING (seq) "
        "WHERE topic LIKE 'ends-%'"
    )
    wait_until(lambda: len(running.query(rows)) == 240, "all are rows")
    assert {row["id"]: row["expires_at"] for row in running.query(rows)} == told


def test_a_batch_and_a_delayed_message_say_when_they_are_over(running):
    batch = running.publish("many", b"1\n2\n", {"split": "lines", "expires-at": FAR}).json()
    later = running.publish("many", b"3", {"delay": "1h", "ttl": "1h"}).json()
    assert batch["expires_at"] == FAR
    assert later["due_at"] < later["expires_at"]
    sent = running.cli("publish", "many", "4", "--ttl", "1h")
    assert sent.returncode == 0, sent.stderr
    running.wait_rows(3, "many")
    rows = running.query(
        "SELECT body, expires_at, meta ->> 'expires_at' FROM messages JOIN expirations USING (seq) "
        "WHERE topic = 'many' ORDER BY body"
    )
    assert [row[0] for row in rows] == ["1", "2", "4"]
    assert [row[1] for row in rows] == [FAR, FAR, rows[2][1]]
    assert all(row[1] == row[2] for row in rows)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ttl": "soon"}, "expected a span"),
        ({"ttl": "0s"}, "over before it is due"),
        ({"expires-at": "2020-01-01"}, "over before it is due"),
        ({"delay": "2h", "expires-at": "2026-01-01"}, "over before it is due"),
        ({"ttl": "10m", "expires-at": FAR}, "one of them"),
    ],
)
def test_an_end_that_can_t_be_is_refused_with_words(running, asked, words):
    answer = running.publish("odd", b"x", asked)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]
