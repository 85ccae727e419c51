"""Deleting through the real queue and the real worker, which is killed while it deletes."""

import json
import sqlite3

import pytest
from harness import wait_until

ROWS = 10_000


@pytest.fixture(scope="module")
def appliance(module_stack):
    return module_stack()


def fill(appliance, topic):
    lines = b"".join(b'{"n":%d}\n' % n for n in range(ROWS))
    appliance.publish(topic, lines, {"split": "lines"}).raise_for_status()
    appliance.wait_rows(ROWS, topic)


def done(appliance, deletion_id):
    """Wait until a deletion is done; return it."""

    def look():
        row = appliance.get(f"/v1/deletions/{deletion_id}").json()
        return row if row["status"] == "done" else None

    return wait_until(look, "the deletion is done", 60, appliance.logs)


def counters(appliance):
    """The topics' counters, and the same counted from the rows."""
    kept = appliance.query("SELECT topic, messages, bytes FROM topics ORDER BY topic")
    counted = appliance.query(
        "SELECT topic, count(*), sum(length(CAST(body AS BLOB))) FROM messages "
        "GROUP BY topic ORDER BY topic"
    )
    return [tuple(row) for row in kept if row[1]], [tuple(row) for row in counted]


def test_messages_that_are_not_stored_yet_are_deleted_and_later_ones_stay(appliance):
    appliance.publish("queued", b"stored")
    appliance.wait_rows(1, "queued")
    (worker,) = appliance.workers
    worker.stop()
    appliance.publish("queued", b"under way").raise_for_status()
    asked = appliance.client.delete("/v1/topics/queued/messages").json()
    appliance.publish("queued", b"later").raise_for_status()
    assert appliance.get(f"/v1/deletions/{asked['id']}").json()["status"] == "queued"
    worker.start()
    assert done(appliance, asked["id"])["messages"] == 2
    appliance.wait_rows(1, "queued")
    assert [row["body"] for row in appliance.rows("queued")] == ["later"]


def test_a_deletion_goes_on_after_its_worker_was_killed_and_the_numbers_are_right(appliance):
    fill(appliance, "big")
    appliance.publish("other", b"x" * 100).raise_for_status()
    asked = appliance.client.delete("/v1/topics/big/messages", params={"where": "n>=1000"}).json()
    (worker,) = appliance.workers
    for part in (0.9, 0.6, 0.3):
        wait_until(
            lambda part=part: appliance.count("big") < part * ROWS, "rows are gone", 60,
            appliance.logs,
        )  # fmt: skip
        worker.kill()
        kept, counted = counters(appliance)
        assert kept == counted
        worker.start()
    row = done(appliance, asked["id"])
    assert appliance.count("big") == 1000
    assert (row["messages"], row["kept"]) == (ROWS - 1000, 0)
    kept, counted = counters(appliance)
    assert kept == counted
    verified = appliance.cli("verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_messages_are_stored_while_others_are_deleted(appliance):
    fill(appliance, "going")
    asked = appliance.client.delete("/v1/topics/going/messages").json()
    for n in range(50):
        answer = appliance.publish("coming", b"%d" % n, Prefer="wait=20")
        assert answer.status_code == 201, answer.text
    assert done(appliance, asked["id"])["messages"] == ROWS
    assert [row["body"] for row in appliance.rows("coming")] == [str(n) for n in range(50)]
    assert appliance.get("/v1/topics/going/messages").status_code == 404


def test_a_trigger_that_keeps_a_row_stops_no_deletion(appliance):
    appliance.publish("kept", b"a\nb\nc\nd", {"split": "lines"}).raise_for_status()
    appliance.wait_rows(4, "kept")
    link = sqlite3.connect(appliance.database, timeout=10)
    link.execute(
        "CREATE TRIGGER keeps BEFORE DELETE ON messages WHEN old.body = 'b' "
        "BEGIN SELECT raise(ABORT, 'kept'); END"
    )
    link.commit()
    try:
        asked = appliance.client.delete("/v1/topics/kept/messages").json()
        row = done(appliance, asked["id"])
    finally:
        link.execute("DROP TRIGGER keeps")
        link.commit()
        link.close()
    assert (row["messages"], row["kept"]) == (3, 1)
    assert [each["body"] for each in appliance.rows("kept")] == ["b"]


def test_the_command_deletes_by_topic_and_by_id_and_says_how_many(appliance):
    ids = appliance.publish("cli", b"1\n22\n333", {"split": "lines"}).json()["ids"]
    appliance.wait_rows(3, "cli")
    asked = appliance.cli("delete", "--topic", "cli")
    assert asked.returncode == 2
    assert b"would delete 3 messages of cli; give --yes" in asked.stderr
    found = appliance.cli("delete", ids[1])
    assert found.returncode == 0, found.stderr
    assert found.stderr == b"1 message deleted (2 bytes)\n"
    report = json.loads(appliance.cli("delete", "--topic", "cli", "--yes", "--json").stdout)
    assert [(each["status"], each["messages"]) for each in report["deletions"]] == [("done", 2)]
    again = appliance.cli("delete", ids[0])
    assert again.returncode == 1
    assert b"no message" in again.stderr
    audit = appliance.get("/v1/audit?limit=1").json()["audit"][0]
    assert (audit["action"], audit["target"], audit["who"]) == (
        "message-delete", "cli", "administrator",
    )  # fmt: skip


@pytest.mark.parametrize("rights", ["read", "publish"])
def test_a_token_that_is_no_administrators_deletes_nothing(appliance, rights):
    appliance.publish("safe", b"x", Prefer="wait=20")
    made = appliance.client.post("/v1/tokens", json={"name": rights, "rights": [rights]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    for method, path in (
        ("DELETE", "/v1/topics/safe/messages"),
        ("DELETE", f"/v1/messages/{appliance.rows('safe')[0]['id']}"),
        ("GET", "/v1/deletions"),
    ):
        answer = appliance.client.request(method, path, headers=headers)
        assert answer.status_code == 403, (method, path)
    assert appliance.count("safe")
