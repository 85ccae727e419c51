"""Replays into a topic by real workers, which are killed meanwhile: each copy becomes one row."""

import json

import pytest
from harness import wait_until

MANY = 20_000


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=2)


@pytest.fixture(scope="module")
def filled(running):
    lines = b"".join(b'{"n":%d}\n' % number for number in range(MANY))
    told = running.publish("many", lines, {"split": "lines"})
    assert told.status_code == 202, told.text
    running.wait_rows(MANY, "many")
    return running


def asked(stack, **wish):
    answer = stack.client.post("/v1/replays", json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()


def look(stack, replay):
    return stack.get(f"/v1/replays/{replay['id']}").json()


def ended(stack, replay):
    def look_once():
        found = look(stack, replay)
        return found if found["state"] == "done" else None

    return wait_until(look_once, "the replay is done", 60, stack.logs)


def test_copies_become_rows_once_whichever_worker_is_killed_and_stopped_or_not(filled):
    replay = asked(filled, into="copies", select={"topics": ["many"]})
    assert replay["messages"] == MANY
    for number, worker in enumerate(filled.workers * 2, 1):
        enough = number * MANY // 8
        wait_until(
            lambda enough=enough: look(filled, replay)["sent"] >= enough,
            "a part is copied", 60, filled.logs,
        )  # fmt: skip
        worker.kill()
        if number == 2:
            path = f"/v1/replays/{replay['id']}"
            assert filled.client.post(f"{path}/stop").json()["state"] == "stopped"
            assert filled.client.post(f"{path}/resume").json()["state"] == "running"
        worker.start()
    found = ended(filled, replay)
    assert (found["sent"], found["gone"], found["progress"]) == (MANY, 0, 1.0)
    rows = filled.rows("copies")
    assert [json.loads(row["body"])["n"] for row in rows] == list(range(MANY))
    source = filled.rows("many")[7]
    assert json.loads(rows[7]["meta"]) == json.loads(source["meta"] or "{}") | {
        "replay": {
            "id": replay["id"], "of": source["id"], "topic": "many",
            "received_at": source["received_at"],
        }
    }  # fmt: skip
    verified = filled.cli("verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_the_commands_make_follow_list_and_stop_replays(filled):
    select = ("--topic", "many", "--where", "n<500")
    counted = filled.cli("replay", "create", "--into", "few", *select, "--dry-run")
    assert counted.stdout == b"500 messages to the topic few\n", counted.stderr
    refused = filled.cli("replay", "create", "--into", "few", *select)
    assert refused.returncode == 2
    assert b"would send 500 messages to the topic few; give --yes" in refused.stderr
    made = filled.cli("replay", "create", "--into", "few", *select, "--yes", "--follow")
    assert made.returncode == 0, made.stderr
    assert b"done: 500 messages sent to the topic few" in made.stderr
    name = made.stdout.decode().strip()
    assert filled.count("few") == 500
    listed = json.loads(filled.cli("replay", "list", "--json").stdout)["replays"]
    assert listed[0]["id"] == name
    assert b"100%" in filled.cli("replay", "list").stdout
    assert b"progress     100%" in filled.cli("replay", "show", name).stdout
    stopped = filled.cli("replay", "stop", name)
    assert (stopped.returncode, stopped.stderr[:5]) == (0, b"done:")
    resumed = filled.cli("replay", "resume", name)
    assert resumed.returncode == 1
    assert b"make another" in resumed.stderr
    assert filled.cli("replay", "show", "none").returncode == 1


def test_a_query_that_is_refused_says_why_on_the_command_line(filled):
    done = filled.cli("replay", "create", "--into", "few", "--sql", "DELETE FROM messages", "--yes")
    assert done.returncode == 1
    assert b"begins with SELECT or WITH" in done.stderr
    assert filled.count("many") == MANY
