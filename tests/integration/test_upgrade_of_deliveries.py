"""Upgrade of what goes out again: endpoints, subscriptions and delayed messages of a version that
had them, amid their work.

The earlier version really ran: its code, out of git, has delivered, handed out and kept for later,
and has left failures, leases and a queue.
"""

import json
from types import SimpleNamespace

import previous
import pytest
import standardwebhooks
from harness import Process, wait_until
from load import depth, wait_drained
from receivers import Reply, receiving

pytestmark = pytest.mark.slow

#: How many messages each topic has at first, and how many more before and after its workers ended.
FIRST, MORE, QUEUED = 5, 4, 3
DELAYED = 6


def call(stack, method, path, wanted=None, status=(200, 201, 202, 204)):
    answer = stack.client.request(method, path, json=wanted)
    assert answer.status_code in status, answer.text
    return answer.json() if answer.content else None


def send(stack, topic, count, **parameters):
    """Send numbered JSON; return the ids."""
    ids = []
    for number in range(count):
        answer = stack.publish(topic, json.dumps({"n": number}), parameters)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
    return ids


def shown(stack, name):
    return call(stack, "GET", f"/v1/endpoints/{name}")


@pytest.fixture(scope="module")
def upgraded(module_stack, tmp_path_factory):
    """A folder of the earlier version with today's program on it, and what its receiver got."""
    made = module_stack(start=False, deliver_allow="127.0.0.1")
    previous.run_by(made, previous.take_out(previous.OUTWARD, tmp_path_factory.mktemp("v") / "v"))
    deliver = Process("deliver", made.env, made.folder)
    refused = {"failing"}
    with receiving(lambda got: Reply(500 if got.topic in refused else 204)) as receiver:
        made.start()
        deliver.start()
        assert made.query("PRAGMA user_version")[0][0] == previous.OUTWARD.schema
        made.secrets = {}
        for name, settings in (
            ("ordered", {"ordered": True}),
            ("short", {"lifetime": "0s"}),
            ("paused", {}),
        ):
            topics = {"short": ["failing"]}.get(name, ["orders", "failing"])
            url = f"{receiver.url}/{name}"
            wanted = {"name": name, "url": url, "topics": topics, "settings": settings}
            made.secrets[name] = call(made, "POST", "/v1/endpoints", wanted)["secret"]
        call(made, "POST", "/v1/endpoints/paused/pause", {"reason": "it moves"})
        pulled = {"name": "pulled", "topics": ["orders"], "lease_seconds": 1, "max_attempts": 1000}
        call(made, "POST", "/v1/subscriptions", pulled)
        once = {"name": "once", "topics": ["failing"], "lease_seconds": 1, "max_attempts": 1}
        call(made, "POST", "/v1/subscriptions", once)

        sent = {topic: send(made, topic, FIRST) for topic in ("orders", "failing")}
        wait_until(lambda: shown(made, "ordered")["totals"]["delivered"] == FIRST, "delivered")
        wait_until(lambda: shown(made, "ordered")["undelivered"]["held_topics"] == 1, "a lane")
        wait_until(lambda: shown(made, "short")["undelivered"]["given_up"] == FIRST, "given up")
        got = call(made, "POST", "/v1/subscriptions/pulled/receive?limit=3")["messages"]
        leases = [each["lease"] for each in got]
        call(made, "POST", "/v1/subscriptions/pulled/ack", {"leases": leases[:1]})
        back = {"leases": leases[1:2], "delay": "1s"}
        call(made, "POST", "/v1/subscriptions/pulled/nack", back)
        (dead,) = call(made, "POST", "/v1/subscriptions/once/receive?limit=1")["messages"]
        wait_until(lambda: call(made, "GET", "/v1/subscriptions/once")["dead"], "one is dead")
        later = send(made, "later", DELAYED, delay="1d")
        wait_until(lambda: len(listed(made)) == DELAYED, "they wait", more=made.logs)

        deliver.stop()  # from here on nothing is delivered, and then nothing is stored
        for topic in sent:
            sent[topic] += send(made, topic, MORE)
        made.wait_rows(2 * (FIRST + MORE))
        for worker in made.workers:
            worker.stop()
        for topic in sent:
            sent[topic] += send(made, topic, QUEUED)
        soon = send(made, "soon", DELAYED, delay="1s")
        made.api.stop()
        assert depth(made) >= 2 * QUEUED + DELAYED
        made.broker.process.stop()

        previous.run_by(made, None)
        made.broker.start()
        migrated = made.cli("migrate")
        assert migrated.returncode == 0, migrated.stderr
        made.start()
        deliver.start()
        wait_drained(made)
        yield SimpleNamespace(
            stack=made, sent=sent, later=later, soon=soon, receiver=receiver, refused=refused,
            deliver=deliver, acknowledged=got[0]["id"], dead=dead["id"],
        )  # fmt: skip
        deliver.kill()


def listed(stack):
    return call(stack, "GET", "/v1/delayed")["delayed"]


def journal(upgraded, name):
    return [each for each in upgraded.receiver.journal if each.path == f"/hook/{name}"]


def test_endpoints_of_the_previous_version_go_on_in_order_and_miss_none(upgraded):
    stack, sent = upgraded.stack, upgraded.sent
    upgraded.refused.clear()
    orders = len(sent["orders"])

    def came(topic):
        got = [each.id for each in journal(upgraded, "ordered") if each.topic == topic]
        return list(dict.fromkeys(got))

    def all_is_delivered():
        call(stack, "POST", "/v1/endpoints/ordered/resume", {})
        return shown(stack, "ordered")["totals"]["delivered"] == 2 * orders

    wait_until(all_is_delivered, "ordered", 60, lambda: upgraded.deliver.log)
    assert came("orders") == sent["orders"]
    assert came("failing") == sent["failing"]
    secret = standardwebhooks.Webhook(stack.secrets["ordered"])
    for each in journal(upgraded, "ordered"):
        secret.verify(each.body, each.headers)  # raises where it is none


def test_paused_endpoint_of_the_previous_version_gets_everything_when_it_is_resumed(upgraded):
    stack = upgraded.stack
    before = shown(stack, "paused")
    assert (before["state"], before["reason"]) == ("paused", "it moves")
    ids = {each for topic in upgraded.sent.values() for each in topic}
    assert before["behind"] >= len(ids)
    assert not journal(upgraded, "paused")
    call(stack, "POST", "/v1/endpoints/paused/resume", {})
    wait_until(
        lambda: shown(stack, "paused")["totals"]["delivered"] == len(ids),
        "delivered",
        60,
        lambda: upgraded.deliver.log,
    )
    assert {each.id for each in journal(upgraded, "paused")} == ids


def test_messages_that_the_previous_version_gave_up_are_redriven(upgraded):
    stack, path = upgraded.stack, "/v1/endpoints/short"
    given_up = call(stack, "GET", f"{path}/undelivered?state=given-up")["undelivered"]
    ids = {each["message_id"] for each in given_up}
    assert ids >= set(upgraded.sent["failing"][:FIRST])
    seen = len(journal(upgraded, "short"))
    upgraded.refused.clear()
    call(stack, "POST", f"{path}/redrive", {"all": True})
    wait_until(
        lambda: ids <= {each.id for each in journal(upgraded, "short")[seen:]}, "they come again"
    )


def test_leases_of_the_previous_version_end_and_their_messages_are_handed_out_again(upgraded):
    stack, got = upgraded.stack, []

    def all_are_received():
        path = "/v1/subscriptions/pulled"
        found = call(stack, "POST", f"{path}/receive?limit=100&wait=1")["messages"]
        if found:
            call(stack, "POST", f"{path}/ack", {"leases": [each["lease"] for each in found]})
        got.extend(each["id"] for each in found)
        return set(got) >= set(upgraded.sent["orders"]) - {upgraded.acknowledged}

    wait_until(all_are_received, "all are received", 60, stack.logs)
    assert upgraded.acknowledged not in got
    assert len(got) == len(set(got))


def test_dead_messages_of_a_subscription_of_the_previous_version_are_redriven(upgraded):
    stack, path = upgraded.stack, "/v1/subscriptions/once"
    (dead,) = call(stack, "GET", f"{path}/dead-letters")["dead_letters"]
    assert dead["id"] == upgraded.dead
    call(stack, "POST", f"{path}/dead-letters/redrive", {"all": True})
    found = call(stack, "POST", f"{path}/receive?limit=100")["messages"]
    assert upgraded.dead in {each["id"] for each in found}
    call(stack, "POST", f"{path}/ack", {"leases": [each["lease"] for each in found]})


def test_delayed_messages_of_the_previous_version_wait_and_become_rows_once(upgraded):
    stack = upgraded.stack
    stack.wait_rows(DELAYED, "soon")
    assert sorted(row["id"] for row in stack.rows("soon")) == sorted(upgraded.soon)
    assert {each["id"] for each in listed(stack)} == set(upgraded.later)
    assert stack.count("later") == 0
    call(stack, "DELETE", f"/v1/delayed/{upgraded.later[0]}")
    assert {each["id"] for each in listed(stack)} == set(upgraded.later[1:])


def test_verify_finds_nothing_wrong_after_an_upgrade_of_deliveries(upgraded):
    stack = upgraded.stack
    wait_until(lambda: stack.cli("verify").returncode == 0, "all is well", 30, stack.logs)
