"""Endpoints from one end to the other, as their users do it: commands, curl, a real receiver."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from harness import Process, wait_until
from receivers import Reply, receiving
from standardwebhooks import Webhook, WebhookVerificationError


@pytest.fixture(scope="module")
def appliance(module_stack):
    return module_stack(deliver_allow="127.0.0.0/8")


@pytest.fixture(scope="module", autouse=True)
def delivering(appliance):
    process = Process("deliver", appliance.env, appliance.folder)
    process.start()
    yield process
    process.stop()


@contextmanager
def endpoint(stack, url, name, *options):
    """An endpoint that a command makes; its secret."""
    secret = run(stack, "create", name, url, *options)
    yield secret
    run(stack, "remove", name, "--yes")


def run(stack, *words, status=0):
    """Run `appliance endpoint`; return what it prints."""
    done = stack.cli("endpoint", *words)
    assert done.returncode == status, done.stderr
    return (done.stderr if status else done.stdout).decode().strip()


def shown(stack, name):
    return json.loads(run(stack, "show", name, "--json"))


def undelivered(stack, name, state):
    lines = run(stack, "undelivered", name, "--state", state, "--json").splitlines()
    return [json.loads(line) for line in lines]


def publish(stack, topic, body):
    """Send a message by curl; return its id."""
    token, kind = f"Authorization: Bearer {stack.token}", "Content-Type: application/json"
    url = f"{stack.url}/v1/topics/{topic}/messages"
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "-H", token, "-H", kind, "--data-binary", "@-", url],
        input=body, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)["id"]


def wait_for(stack, process, receiver, count):
    wait_until(
        lambda: len(receiver.journal) >= count, f"{count} requests", more=lambda: process.log
    )


def test_a_message_goes_from_curl_to_a_receiver_that_verifies_it(appliance, delivering):
    with (
        receiving() as receiver,
        endpoint(appliance, receiver.url, "erp", "--topic", "orders.*") as secret,
    ):
        publish(appliance, "carts", b'{"not": "wanted"}')
        message = publish(appliance, "orders.eu", b'{"total": 120}')
        wait_for(appliance, delivering, receiver, 1)
        got = receiver.journal[0]
        assert Webhook(secret).verify(got.body, got.headers) == {"total": 120}
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(got.body + b" ", got.headers)
        assert (got.id, got.topic) == (message, "orders.eu")
        assert got.headers["content-type"] == "application/json"

        def noted():
            lines = run(appliance, "deliveries", "erp", "--message", message, "--json")
            return [json.loads(line) for line in lines.splitlines()]

        (attempt,) = wait_until(noted, "the attempt is listed")
        assert (attempt["status"], attempt["error"]) == (204, None)

        other = run(appliance, "rotate-secret", "erp")

        def signed_twice():
            publish(appliance, "orders.eu", b'{"total": 121}')
            found = [e for e in receiver.journal if " " in e.headers["webhook-signature"]]
            return found and found[0]

        got = wait_until(signed_twice, "both secrets sign", more=lambda: delivering.log)
        for each in (secret, other):
            assert Webhook(each).verify(got.body, got.headers) is not None
    assert {each.topic for each in receiver.journal} == {"orders.eu"}


def test_an_endpoint_is_paused_and_gets_what_it_missed_when_it_is_resumed(appliance, delivering):
    with receiving() as receiver, endpoint(appliance, receiver.url, "web", "--topic", "pauses"):
        first = publish(appliance, "pauses", b"1")
        wait_for(appliance, delivering, receiver, 1)
        wait_until(lambda: shown(appliance, "web")["totals"]["delivered"] == 1, "it is noted")
        run(appliance, "pause", "web", "--reason", "it moves")
        # It is seen within a second; a process that starts sees it at once.
        delivering.stop()
        delivering.start()
        missed = [publish(appliance, "pauses", str(n).encode()) for n in (2, 3)]
        appliance.wait_rows(3, "pauses")
        assert (shown(appliance, "web")["behind"], receiver.ids) == (2, [first])
        run(appliance, "resume", "web")
        wait_for(appliance, delivering, receiver, 3)
        wait_until(lambda: shown(appliance, "web")["behind"] == 0, "it has everything")
        assert set(receiver.ids) == {first, *missed}


def test_a_message_that_is_given_up_is_listed_redriven_and_arrives(appliance, delivering):
    with (
        receiving(lambda _: Reply(500, body=b"<b>out of \x1b[31mpaper</b>")) as receiver,
        endpoint(appliance, receiver.url, "printer", "--topic", "letters", "--lifetime", "0s"),
    ):
        ids = {publish(appliance, "letters", str(n).encode()) for n in (1, 2)}
        wait_until(
            lambda: shown(appliance, "printer")["undelivered"]["given_up"] == 2,
            "both are given up",
            more=lambda: delivering.log,
        )
        rows = undelivered(appliance, "printer", "given-up")
        assert {row["message_id"] for row in rows} == ids
        assert {(row["status"], row["error"]) for row in rows} == {(500, "answered 500")}
        assert "paper" in run(appliance, "deliveries", "printer", "--failed")

        receiver.answering = lambda _: Reply()
        assert run(appliance, "redrive", "printer", str(rows[0]["id"])) == ""
        wait_until(lambda: len(undelivered(appliance, "printer", "any")) == 1, "one has arrived")
        assert run(appliance, "discard", "printer", str(rows[1]["id"])) == ""
        assert shown(appliance, "printer")["undelivered"]["given_up"] == 0
    assert receiver.ids.count(rows[0]["message_id"]) >= 2
    assert receiver.ids.count(rows[1]["message_id"]) == 1


def test_an_endpoint_within_our_networks_is_refused_unless_its_network_is_listed(appliance):
    words = run(appliance, "create", "inside", "http://10.0.0.1/", status=1)
    assert "APPLIANCE_DELIVER_ALLOW" in words
    assert "10.0.0.1" in words


def test_a_secret_that_was_shown_is_in_no_answer_no_log_and_no_audit_trail(appliance, delivering):
    with endpoint(appliance, "http://127.0.0.1:9/", "secret", "--topic", "none") as secret:
        bare = secret.removeprefix("whsec_")
        assert bare not in json.dumps(shown(appliance, "secret"))
        assert bare not in appliance.api.log + delivering.log
        trail = appliance.client.get("/v1/audit").text
        assert "endpoint-create" in trail
        assert bare not in trail


def test_a_test_message_is_sent_at_once_and_its_answer_is_shown(appliance):
    with receiving() as receiver, endpoint(appliance, receiver.url, "erp", "--topic", "none"):
        run(appliance, "pause", "erp")
        assert run(appliance, "test", "erp").startswith("answered 204, after ")
        (got,) = receiver.journal
        assert (got.topic, json.loads(got.body)["endpoint"]) == ("appliance.test", "erp")
        receiver.answering = lambda _: Reply(500, body=b"\x1b[31mno")
        told = appliance.cli("endpoint", "test", "erp")
        assert told.returncode == 1
        assert b"failed: answered 500" in told.stdout
        assert b"\x1b" not in told.stdout
    assert deliveries_of_status(appliance)["endpoints"] == 0


def deliveries_of_status(stack):
    return stack.get("/v1/status").json()["deliveries"]
