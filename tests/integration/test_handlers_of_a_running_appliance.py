"""Handlers behind the real broker, workers and API: replies, repeats, and kills under load."""

import concurrent.futures
import contextlib
import itertools
import threading

import pytest
from harness import Process, wait_until

from appliance.model.handler_outcomes import result_ids

CODE = """
import time
from appliance.handler import Reject

def reply(message):
    word, _, rest = message.text().partition(" ")
    if word == "slow":
        time.sleep(float(rest))
    if word == "none":
        return None
    if word == "reject":
        raise Reject(rest)
    if word == "many":
        return [message.replace(body=part, topic=to) for to, part in
                zip(("replies", "elsewhere"), rest.split())]
    return message.replace(body={"said": message.text()})

def double(message):
    return [message, message.replace(topic="copies")]

def stuck(message):
    if message.attempt > 1:
        raise Reject("it never ends")
    while True:
        pass
"""
HANDLERS = "replies=mine:reply, doubled=mine:double, stuck=mine:stuck"


@pytest.fixture(scope="module")
def running(module_stack):
    # Each kill is a failure of the message that the process had, and tests kill many times.
    stack = module_stack(workers=2, handlers=HANDLERS, handler_timeout="1", handler_attempts="100")
    home = stack.data / "handlers"
    home.mkdir()
    (home / "mine.py").write_text(CODE)
    stack.handlers = [Process(f"handle-{n}", stack.env, stack.folder) for n in range(2)]
    for process in stack.handlers:
        process.start()
    yield stack
    for process in stack.handlers:
        process.kill()


def waiting(stack):
    return sum(each["waiting"] for each in stack.get("/v1/handlers").json()["handlers"])


def bodies_of(stack, topic):
    rows = stack.query("SELECT body FROM messages WHERE topic = ? ORDER BY seq", topic)
    return [row[0] for row in rows]


def ask(stack, body, wait=20, topic="replies", **headers):
    return stack.publish(topic, body, Prefer=f"wait={wait}", **headers)


def test_a_sender_that_waits_gets_what_the_handler_said(running):
    answer = ask(running, b"hello")
    told = answer.json()
    assert (answer.status_code, told["status"], told["count"]) == (201, "handled", 1)
    assert answer.headers["Preference-Applied"] == "wait=20"
    (result,) = told["results"]
    assert (result["id"], result["topic"]) == (told["id"], "replies")
    assert (result["body"], result["content_type"]) == ('{"said":"hello"}', "application/json")
    where = answer.headers["Location"]
    assert running.get(f"{where}/body").json() == {"said": "hello"}
    assert running.get(where).json()["meta"]["handler"] == "mine:reply"


def test_several_results_are_told_and_found_by_the_id_of_their_input(running):
    told = ask(running, b"many one two").json()
    ids = result_ids(told["id"], 2)
    assert [(each["id"], each["topic"], each["body"]) for each in told["results"]] == [
        (ids[0], "replies", "one"), (ids[1], "elsewhere", "two"),
    ]  # fmt: skip
    shown = running.get(f"/v1/messages/{told['id']}").json()
    assert (shown["status"], shown["outcome"], shown["result_ids"]) == ("handled", "handled", ids)
    assert ids[1] in running.cli("show", told["id"]).stdout.decode()


def test_no_result_is_200_and_a_failure_is_202_and_a_dead_letter(running):
    answer = ask(running, b"none")
    assert (answer.status_code, answer.json()["status"], answer.json()["results"]) == (
        200, "handled", [],
    )  # fmt: skip
    assert running.get(f"/v1/messages/{answer.json()['id']}").json()["outcome"] == "dropped"
    answer = ask(running, b"reject it is wrong")
    told = answer.json()
    assert (answer.status_code, told["status"], told["reason"], told["error"]) == (
        202, "dead", "handler-failed", "rejected: it is wrong",
    )  # fmt: skip
    assert running.get(f"/v1/messages/{told['id']}").json()["status"] == "dead"


def test_a_sender_that_waits_too_short_is_told_that_it_is_queued(running):
    answer = ask(running, b"slow 0.9", wait=0)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    name = answer.json()["id"]
    seen = wait_until(lambda: running.get(f"/v1/messages/{name}").json().get("status"),
                      "it is seen", 20, running.logs)  # fmt: skip
    assert seen in ("waiting", 404, "stored")
    wait_until(lambda: running.get(f"/v1/messages/{name}").json().get("status") == "stored",
               "it is handled", 20, running.logs)  # fmt: skip


def test_a_sender_sees_results_elsewhere_only_if_it_may_read_them(running):
    made = running.client.post(
        "/v1/tokens", json={"name": "asker", "rights": ["publish"], "topics": ["replies"]}
    )
    assert made.status_code == 201, made.text
    told = ask(running, b"many a b", Authorization=f"Bearer {made.json()['token']}").json()
    assert [each.get("body") for each in told["results"]] == ["a", None]
    told = ask(running, b"reject x", Authorization=f"Bearer {made.json()['token']}").json()
    assert (told["status"], "error" in told) == ("dead", False)


def test_a_batch_that_waits_is_answered_once_all_of_it_is_handled(running):
    lines = b"\n".join(b"line %d" % n for n in range(50))
    answer = running.publish("replies", lines, {"split": "lines"}, Prefer="wait=20")
    assert (answer.status_code, answer.json()["count"]) == (201, 50)
    for name in answer.json()["ids"]:
        assert running.get(f"/v1/messages/{name}").json()["status"] == "stored"


@pytest.mark.parametrize("body", [b"hello again", b"many x y", b"none", b"reject it"])
def test_the_same_key_again_is_the_same_message_and_another_body_is_refused(running, body):
    """Also after a restart of the API, which remembers keys."""
    key = {"Idempotency-Key": f"key-{body.decode().replace(' ', '-')}"}
    first = ask(running, body, **key)
    before = running.count("replies")
    assert ask(running, body, **key).json()["id"] == first.json()["id"]
    running.api.stop()
    running.api.start()
    running.wait_ready()
    again = ask(running, body, **key)
    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])
    assert again.json().get("results") == first.json().get("results")
    assert ask(running, b"other", **key).status_code == 422
    assert running.count("replies") == before


def test_a_letter_of_a_failed_handler_can_be_sent_again(running):
    told = ask(running, b"reject me").json()
    (letter,) = [
        each
        for each in running.get("/v1/dead-letters").json()["dead_letters"]
        if each["id"] == told["id"]
    ]
    answer = running.client.post(
        f"/v1/dead-letters/{letter['seq']}/redrive", params={"topic": "plain"}
    )
    assert answer.status_code == 202, answer.text
    running.wait_rows(1, "plain")


@contextlib.contextmanager
def killing(*processes):
    """Kill one process after another within the block; each is started again at once."""
    done = threading.Event()

    def kill():
        for victim in itertools.cycle(processes):
            if done.wait(0.4):
                return
            victim.kill()
            victim.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        done.set()
        killer.join()


def test_kills_under_load_leave_each_result_once_and_other_topics_in_order(running):
    """Handlers and workers are killed, one handler only loops; intake goes on as without them."""
    for number in range(4):
        assert running.publish("stuck", b"%d" % number).status_code == 202

    def send(sender):
        for number in range(100):
            for topic in ("doubled", f"order{sender}"):
                answer = running.client.post(
                    f"/v1/topics/{topic}/messages",
                    content=f"{sender} {number}",
                    headers={"Idempotency-Key": f"{sender}-{number}"},
                )
                assert answer.status_code == 202, answer.text

    processes = (*running.handlers, *running.workers)
    with killing(*processes), concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    running.wait_ready()
    for topic in ("doubled", "copies"):
        running.wait_rows(400, topic)
    wait_until(lambda: waiting(running) == 0, "all are handled", 60, running.logs)
    bodies = sorted(f"{sender} {number}" for sender in range(4) for number in range(100))
    for topic in ("doubled", "copies"):
        assert sorted(bodies_of(running, topic)) == bodies
    for sender in range(4):
        assert bodies_of(running, f"order{sender}") == [
            f"{sender} {number}" for number in range(100)
        ]
    reasons = [each["reason"] for each in running.get("/v1/dead-letters").json()["dead_letters"]
               if each["topic"] == "stuck"]  # fmt: skip
    assert reasons == ["handler-failed"] * 4
    metrics = running.get("/metrics").text
    assert 'appliance_handler_waiting_messages{function="mine:double"} 0' in metrics
    assert 'appliance_handler_messages_total{outcome="handled",function="mine:double"}' in metrics


def test_messages_whose_handler_is_taken_away_become_rows(running):
    for process in running.handlers:
        process.stop()
    running.publish("doubled", b"left over")
    wait_until(lambda: waiting(running) == 1, "it waits", 20, running.logs)
    status = running.get("/v1/status").json()["handlers"]
    assert (status["waiting"], status["retrying"]) == (1, 0)
    assert b"1 message waits; the oldest came" in running.cli("status").stdout
    name = running.publish("doubled", b"another").json()["id"]
    wait_until(lambda: waiting(running) == 2, "both wait", 20, running.logs)
    assert b"it waits for its handler" in running.cli("show", name).stdout
    running.env["APPLIANCE_HANDLERS"] = ""
    before = running.count("doubled")
    for process in (*running.workers, running.api):
        process.stop()
        process.start()
    running.wait_ready()
    running.wait_rows(before + 2, "doubled")
    assert bodies_of(running, "doubled")[-2:] == ["left over", "another"]
