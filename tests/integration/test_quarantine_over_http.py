"""The quarantine on a real stack: kept and told, bounded, and verified again when redriven."""

import contextlib
import gzip
import hashlib
import hmac
import json
import sqlite3
import time
from datetime import UTC, datetime

import httpx
import pytest
import standardwebhooks
import stripe
from harness import wait_until
from load import wait_accepting, wait_drained

from appliance.store import open_store

pytestmark = pytest.mark.slow

OLD, NEW = "the old secret of the sender", "the new secret of the sender"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KIB = 1024


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1, quarantine_bytes=2**20, quarantine_rate=200)


@pytest.fixture
def topic(request):
    return request.node.name.removeprefix("test_").replace("_", "-")[:60].strip("-.")


@pytest.fixture(scope="module")
def sender():
    with httpx.Client(trust_env=False) as client:
        yield client


def create(running, topic, kind, *secrets, on_invalid="quarantine", **settings):
    settings = {"on_invalid": on_invalid, **settings}
    wanted = {"topic": topic, "kind": kind, "secrets": secrets, "settings": settings}
    answer = running.client.post("/v1/inboxes", json=wanted)
    assert answer.status_code == 201, answer.text
    return answer.json()["address"]


def github(body, secret, delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958"):
    return {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": "sha256="
        + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "Content-Type": "application/json",
    }


def letters(running, topic):
    wait_drained(running)
    answer = running.client.get("/v1/dead-letters", params={"topic": topic, "limit": 1000})
    return answer.json()["dead_letters"][::-1]


def messages(running, topic):
    wait_drained(running)
    answer = running.client.get(f"/v1/topics/{topic}/messages", params={"after": "0"})
    return answer.json()["messages"] if answer.status_code == 200 else []


def redrive(running, letter, query=""):
    return running.client.post(f"/v1/dead-letters/{letter['seq']}/redrive{query}")


def give_secret(running, name, secret):
    answer = running.client.post(f"/v1/inboxes/{name}/secrets", json={"secret": secret})
    assert answer.status_code in (200, 201), answer.text


def test_a_webhook_signed_with_another_secret_is_kept_and_redriven_once_the_inbox_has_it(
    running, sender, topic
):
    address = create(running, topic, "github", OLD)
    body = b'{"ref":"main"}'
    answer = sender.post(address, content=body, headers=github(body, NEW))
    assert answer.status_code == 202
    told = answer.json()
    assert (told["status"], told["reason"]) == ("quarantined", "bad-signature")
    (letter,) = letters(running, topic)
    assert (letter["id"], letter["reason"]) == (told["id"], "bad-signature")
    assert letter["body"] == body.decode()
    meta = letter["meta"]
    assert (meta["inbox"], meta["verified"], meta["quarantine"]) == (topic, False, f"inbox {topic}")
    assert address.rpartition("/")[2] not in json.dumps(letter)
    refused = redrive(running, letter)
    assert refused.status_code == 422
    assert "its signature is still not right" in refused.json()["detail"]
    assert "?force=true" in refused.json()["detail"]
    give_secret(running, topic, NEW)
    assert redrive(running, letter).status_code == 202
    (message,) = messages(running, topic)
    assert message["body"] == body.decode()
    assert message["meta"]["verified"] is True
    assert "quarantine" not in message["meta"]
    assert letters(running, topic) == []
    # The sender's own redelivery is the same message.
    again = sender.post(address, content=body, headers=github(body, NEW))
    assert (again.status_code, again.json()["id"]) == (200, message["id"])
    assert len(messages(running, topic)) == 1


def test_a_letter_whose_sender_came_again_meanwhile_makes_no_second_row(running, sender, topic):
    address = create(running, topic, "github", OLD)
    sender.post(address, content=b'{"n":1}', headers=github(b'{"n":1}', NEW))
    give_secret(running, topic, NEW)
    other = b'{"n":1,"attempt":2}'
    assert sender.post(address, content=other, headers=github(other, NEW)).status_code == 202
    (letter,) = letters(running, topic)
    (message,) = messages(running, topic)
    answer = redrive(running, letter)
    assert (answer.status_code, answer.json()["id"]) == (202, message["id"])
    assert [m["body"] for m in messages(running, topic)] == [other.decode()]
    assert letters(running, topic) == []


def test_a_forged_letter_never_takes_the_place_of_the_signed_message(running, sender, topic):
    """Whoever knows the address and an event's id sends it first, unsigned."""
    address = create(running, topic, "github", OLD)
    forged = sender.post(address, content=b"forged", headers=github(b"forged", "guess"))
    assert forged.json()["status"] == "quarantined"
    body = b'{"real":1}'
    assert (
        sender.post(address, content=body, headers=github(body, OLD)).json()["status"] == "queued"
    )
    assert [m["body"] for m in messages(running, topic)] == [body.decode()]
    (letter,) = letters(running, topic)
    assert redrive(running, letter).status_code == 422


@pytest.mark.parametrize("kind", ["stripe", "standard", "hmac"])
def test_a_message_that_is_too_old_is_redriven_whatever_its_time(running, sender, topic, kind):
    topic = f"too-old-{kind}"
    signed_at = int(time.time()) - 86_400
    body = b'{"id":"evt_1"}'
    if kind == "stripe":
        text = f"{signed_at}.{body.decode()}"
        signature = stripe.WebhookSignature._compute_signature(text, OLD)
        headers = {"Stripe-Signature": f"t={signed_at},v1={signature}"}
        address = create(running, topic, kind, OLD)
    elif kind == "standard":
        webhook = standardwebhooks.Webhook(STANDARD)
        moment = datetime.fromtimestamp(signed_at, UTC)
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(signed_at),
            "webhook-signature": webhook.sign("msg_1", moment, body.decode()),
        }
        address = create(running, topic, kind, STANDARD)
    else:
        text = b"%d.%b" % (signed_at, body)
        headers = {
            "X-Till-Auth-Code": hmac.new(OLD.encode(), text, hashlib.sha256).hexdigest(),
            "X-Till-Time": str(signed_at),
        }
        address = create(
            running, topic, kind, OLD, header="X-Till-Auth-Code", timestamp_header="X-Till-Time",
            template="{timestamp}.{body}",
        )  # fmt: skip
    answer = sender.post(address, content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    (letter,) = letters(running, topic)
    assert letter["reason"] == "too-old"
    done = redrive(running, letter)
    assert done.status_code == 202, done.text
    (message,) = messages(running, topic)
    assert message["meta"]["verified"] is True
    # Another attempt is another letter, and, where the sender gives its events ids, no other row.
    again = sender.post(address, content=body, headers=headers)
    assert again.json()["status"] == "quarantined"
    if kind != "hmac":
        assert redrive(running, letters(running, topic)[0]).json()["id"] == message["id"]
        assert len(messages(running, topic)) == 1


def test_a_packed_body_of_many_messages_is_unpacked_when_it_is_redriven(running, sender, topic):
    address = create(running, topic, "hmac", OLD, header="X-Sign")
    body = gzip.compress(b'{"n":1}\n{"n":2}\n', mtime=0)
    headers = {
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": "gzip",
        "X-Sign": hmac.new(NEW.encode(), body, hashlib.sha256).hexdigest(),
    }
    assert sender.post(address, content=body, headers=headers).json()["status"] == "quarantined"
    give_secret(running, topic, NEW)
    (letter,) = letters(running, topic)
    assert redrive(running, letter).status_code == 202
    assert [m["body"] for m in messages(running, topic)] == ['{"n":1}', '{"n":2}']


def test_a_body_that_can_not_be_read_is_kept_and_can_be_forced(running, sender, topic):
    address = create(running, topic, "open")
    answer = sender.post(
        address, content=b"{\nno", headers={"Content-Type": "application/x-ndjson"}
    )
    assert (answer.status_code, answer.json()["reason"]) == (202, "bad-form")
    damaged = sender.post(address, content=b"\x1f\x8bno", headers={"Content-Encoding": "gzip"})
    assert damaged.json()["reason"] == "bad-form"
    first, _ = letters(running, topic)
    refused = redrive(running, first)
    assert refused.status_code == 422
    assert "it still can't be read" in refused.json()["detail"]
    assert redrive(running, first, "?force=true").status_code == 202
    assert [m["body"] for m in messages(running, topic)] == ["{\nno"]
    deeds = running.query("SELECT details FROM audit WHERE target = ?", str(first["seq"]))
    assert deeds[0][0].endswith(", by force")


def test_a_schema_letter_is_checked_by_the_schema_of_now(running, topic):
    path = f"/v1/topics/{topic}"
    strict, loose = b'{"type":"object","required":["id"]}', b'{"type":"object"}'
    running.client.put(f"{path}/schema", params={"mode": "quarantine"}, content=strict)
    told = running.client.post(f"{path}/messages", content=b"{}").json()
    (letter,) = letters(running, topic)
    refused = redrive(running, letter)
    assert refused.status_code == 422
    assert "does not fit the schema of" in refused.json()["detail"]
    running.client.put(f"{path}/schema", params={"mode": "quarantine"}, content=loose)
    assert redrive(running, letter).json()["id"] == told["id"]
    assert [m["id"] for m in messages(running, topic)] == [told["id"]]


def test_an_address_that_rejects_keeps_nothing(running, sender, topic):
    address = create(running, topic, "github", OLD, on_invalid="reject")
    assert sender.post(address, content=b"x", headers=github(b"x", NEW)).status_code == 401
    assert letters(running, topic) == []


def test_a_kind_that_signs_its_address_can_only_be_forced(running, sender, topic):
    address = create(running, topic, "twilio", OLD)
    form = {"MessageSid": "SM1", "Body": "hello"}
    answer = sender.post(address, data=form, headers={"X-Twilio-Signature": "bm8="})
    assert answer.status_code == 200  # the kind's own answer
    (letter,) = letters(running, topic)
    assert redrive(running, letter).status_code == 422
    assert redrive(running, letter, "?force=true").status_code == 202
    assert len(messages(running, topic)) == 1


def test_a_letter_of_an_inbox_that_is_gone_can_only_be_forced(running, sender, topic):
    address = create(running, topic, "github", OLD)
    sender.post(address, content=b"x", headers=github(b"x", NEW))
    running.client.delete(f"/v1/inboxes/{topic}")
    (letter,) = letters(running, topic)
    assert "is gone" in redrive(running, letter).json()["detail"]
    assert redrive(running, letter, "?force=true").status_code == 202


def test_a_flood_of_one_address_is_answered_401_and_pushes_out_nobody(running, sender, topic):
    """The stack has room for 1 MiB, of which one address gets a quarter in a minute."""
    other = create(running, f"{topic}-other", "github", OLD)
    body = b'{"till":1}'
    assert sender.post(other, content=body, headers=github(body, NEW)).status_code == 202
    running.client.post(f"/v1/topics/{topic}/messages?on-bad=dead-letter", content=b"1\nno\n",
                        headers={"Content-Type": "application/x-ndjson"})  # fmt: skip
    address = create(running, topic, "github", OLD)
    statuses = []
    began = time.monotonic()
    for n in range(60):
        flood = b"%d" % n + b"x" * 16 * KIB
        statuses.append(sender.post(address, content=flood, headers=github(flood, "x")).status_code)
    seconds = time.monotonic() - began
    assert 15 <= statuses.count(202) <= 18 + seconds * 16 / 60
    assert set(statuses) == {202, 401}
    wait_drained(running)
    assert len(letters(running, f"{topic}-other")) == 1
    found = [letter["reason"] for letter in letters(running, topic)]
    assert found.count("not-json") == 1
    status = running.client.get("/v1/status").json()["quarantine"]
    assert status["refused"] >= 30
    assert status["max_bytes"] == 2**20
    assert status["letters"] >= 10


def test_the_janitor_holds_the_quarantine_to_its_bytes(running, sender, topic):
    """Also what an earlier version, or several processes, let in at once."""
    big = json.dumps({"quarantine": "inbox loud"})
    quiet = json.dumps({"quarantine": "inbox quiet"})
    with contextlib.closing(sqlite3.connect(running.database, timeout=30)) as database, database:
        for n in range(120):
            database.execute(
                "INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at, "
                "meta) VALUES (?, ?, ?, 'bad-signature', 'e', '2999', '2999', ?)",
                (str(n), topic, b"%d" % n + b"x" * 16 * KIB, big if n else quiet),
            )
    for duty in open_store(running.config).duties(lambda _: False):
        duty.run()
    wait_until(
        lambda: running.query("SELECT sum(kept_bytes) FROM dead_letters "
                              "WHERE quarantine IS NOT NULL")[0][0] <= 2**20,
        "the quarantine within its bytes",
    )  # fmt: skip
    left = [row[0] for row in running.query("SELECT id FROM dead_letters WHERE topic = ?", topic)]
    assert "0" in left
    assert "1" not in left
    assert "119" in left
    assert running.client.get("/v1/status").json()["quarantine"]["pushed_out"] > 50
    shown = running.cli("status").stdout.decode()
    assert "pushed out" in shown


def test_the_command_line_redrives_by_reason_and_by_force(running, sender, topic):
    address = create(running, topic, "github", OLD)
    for n in range(3):
        sender.post(address, content=b"%d" % n, headers=github(b"%d" % n, NEW, f"delivery-{n}"))
    wait_drained(running)
    refused = running.cli("dead", "redrive", "--topic", topic, "--yes")
    assert refused.returncode == 1
    assert b"its signature is still not right" in refused.stderr
    hints = running.cli("dead", "list", "--topic", topic).stderr
    assert b"bad-signature: signed with another secret" in hints
    done = running.cli("dead", "redrive", "--topic", topic, "--force", "--yes")
    assert done.returncode == 0, done.stderr
    assert [m["body"] for m in messages(running, topic)] == ["0", "1", "2"]
    assert {m["meta"]["verified"] for m in messages(running, topic)} == {False}


def test_quarantined_letters_outlive_a_kill_of_every_process(running, sender, topic):
    address = create(running, topic, "github", OLD)
    running.workers[0].kill()
    for n in range(20):
        body = b"%d" % n
        assert sender.post(address, content=body, headers=github(body, NEW)).status_code == 202
    running.api.kill()
    running.workers[0].start()
    running.api.start()
    wait_accepting(running)
    assert [letter["body"] for letter in letters(running, topic)] == [str(n) for n in range(20)]
