"""Webhooks that their senders' own libraries sign are taken; what anyone else signed is not."""

import json
import time
from itertools import count
from types import SimpleNamespace

import httpx
import pytest
from harness import wait_until
from load import wait_drained
from recipes import PUBLIC_URL
from webhooks import SENDERS, another, event

pytestmark = pytest.mark.slow

NUMBERS = count(1)


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(public_url=PUBLIC_URL)


@pytest.fixture(params=SENDERS)
def sender(request):
    return SENDERS[request.param]


def make_inbox(running, kind, *secrets, **settings):
    """Make an inbox address by HTTP; return its topic, and the addresses outside and in here."""
    number = next(NUMBERS)
    topic = f"{kind}-{number}"
    wanted = {"topic": topic, "kind": kind, "secrets": secrets, "settings": settings}
    answer = running.client.post("/v1/inboxes", json=wanted)
    assert answer.status_code == 201, answer.text
    address = answer.json()["address"]
    assert address.startswith(f"{PUBLIC_URL}/in/")
    return SimpleNamespace(
        topic=topic,
        address=address,
        url=address.replace(PUBLIC_URL, running.url),
        # Who is refused often is answered slowly: each inbox's sender comes from its own address.
        sender=f"127.0.1.{number}",
    )


def send(inbox, method, url, **options):
    """Send a request as a sender does: without a token."""
    way = httpx.HTTPTransport(local_address=inbox.sender, verify=False)
    with httpx.Client(transport=way, timeout=30, trust_env=False) as client:
        return client.request(method, url, **options)


def post(inbox, webhook):
    return send(inbox, "POST", inbox.url, headers=webhook.headers, content=webhook.body)


def test_signed_request_is_stored_with_its_headers_and_that_it_was_verified(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    told = event(amount=4711, note="gr\u00fc\u00dfe")
    webhook = sender.sign(sender.secret, told, inbox.address)
    answer = post(inbox, webhook)
    assert answer.is_success, answer.text
    (row,) = running.wait_rows(1, inbox.topic)
    meta = json.loads(row["meta"])
    assert meta["verified"] is True
    assert meta["inbox"] == inbox.topic
    stored = json.loads(row["body"])
    assert str(stored["amount"]) == "4711"
    if sender.kind != "twilio":
        assert row["body"].encode() == webhook.body
    kept = {name for name in webhook.headers if name.lower() in meta["headers"]}
    assert {
        n for n in webhook.headers if n.lower().startswith(("x-", "web", "svix", "stripe"))
    } <= (kept)
    assert inbox.address.rpartition("/")[2] not in row["meta"]


def test_body_that_was_changed_on_its_way_is_refused_and_not_stored(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    webhook = sender.sign(sender.secret, event(amount=4711), inbox.address)
    changed = webhook._replace(body=webhook.body.replace(b"4711", b"9999"))
    answer = post(inbox, changed)
    assert answer.status_code == 401, answer.text
    assert sender.secret not in answer.text
    assert post(inbox, webhook).is_success
    running.wait_rows(1, inbox.topic)
    wait_drained(running)
    (row,) = running.rows(inbox.topic)
    assert "9999" not in row["body"]


def test_signature_with_somebody_elses_secret_is_refused(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    assert post(inbox, sender.sign(another(sender), event(), inbox.address)).status_code == 401


def test_request_without_its_signature_is_refused(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    webhook = sender.sign(sender.secret, event(), inbox.address)
    for name in webhook.headers:
        if name.lower().endswith(("signature", "signature-256", "hmac-sha256")):
            less = {n: value for n, value in webhook.headers.items() if n != name}
            assert post(inbox, webhook._replace(headers=less)).status_code == 401, name
            break
    else:
        raise AssertionError(f"nothing of {[*webhook.headers]} is a signature")


@pytest.mark.parametrize("seconds", [-3600, 3600])
@pytest.mark.parametrize("name", ["stripe", "slack", "standard", "svix"])
def test_signature_of_an_hour_ago_or_ahead_is_refused(running, name, seconds):
    sender = SENDERS[name]
    inbox = make_inbox(running, sender.kind, sender.secret)
    at = time.time() + seconds
    assert post(inbox, sender.sign(sender.secret, event(), at=at)).status_code == 401
    generous = make_inbox(running, sender.kind, sender.secret, tolerance=7200)
    assert post(generous, sender.sign(sender.secret, event(), at=at)).is_success


def test_event_that_is_told_again_with_another_counter_is_one_row(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    told = event(n=1)
    first = post(inbox, sender.sign(sender.secret, told, inbox.address))
    again = post(inbox, sender.sign(sender.secret, told.again(), inbox.address))
    assert first.is_success, first.text
    assert again.status_code == 200, again.text
    wait_drained(running)
    (row,) = running.rows(inbox.topic)
    assert "attempt" not in row["body"]


def test_old_and_new_secret_both_count_while_a_sender_changes_it(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    new = another(sender)
    path = f"/v1/inboxes/{inbox.topic}/secrets"
    assert running.client.post(path, json={"secret": new}).status_code == 201
    for secret in (sender.secret, new):
        assert post(inbox, sender.sign(secret, event(), inbox.address)).is_success
    assert running.client.post(path, json={"secret": new, "old_for": "0s"}).status_code == 201
    wait_until(
        lambda: post(inbox, sender.sign(sender.secret, event(), inbox.address)).status_code == 401,
        "the old secret ends", 5,
    )  # fmt: skip
    assert post(inbox, sender.sign(new, event(), inbox.address)).is_success


def test_githubs_published_example_is_taken(running):
    inbox = make_inbox(running, "github", "It's a Secret to Everybody")
    code = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": f"sha256={code}"}
    answer = send(inbox, "POST", inbox.url, headers=headers, content=b"Hello, World!")
    assert answer.status_code == 202, answer.text
    (row,) = running.wait_rows(1, inbox.topic)
    assert row["body"] == "Hello, World!"


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "body"),
    [
        ("github", 202, "application/json", None),
        ("stripe", 202, "application/json", None),
        ("slack", 200, "", b""),
        ("shopify", 200, "", b""),
        ("twilio", 200, "text/xml", b'<?xml version="1.0" encoding="UTF-8"?><Response></Response>'),
        ("standard", 202, "application/json", None),
    ],
)
def test_sender_gets_the_answer_that_it_wants(running, kind, status, content_type, body):
    sender = SENDERS[kind]
    inbox = make_inbox(running, kind, sender.secret)
    answer = post(inbox, sender.sign(sender.secret, event(), inbox.address))
    assert answer.status_code == status
    assert answer.headers.get("content-type", "").startswith(content_type)
    assert body is None or answer.content == body


def test_slacks_check_of_the_address_is_answered_with_its_challenge(running):
    secret = SENDERS["slack"].secret
    inbox = make_inbox(running, "slack", secret)
    check = event(type="url_verification", challenge="3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7")
    answer = post(inbox, SENDERS["slack"].sign(secret, check))
    assert answer.status_code == 200
    assert answer.text == "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7"
    assert post(inbox, SENDERS["slack"].sign("not it", check)).status_code == 401
    wait_drained(running)
    assert running.count(inbox.topic) == 0


def test_slash_command_of_slack_is_stored_as_json(running):
    secret = SENDERS["slack"].secret
    inbox = make_inbox(running, "slack", secret)
    command = event()._replace(body=b"command=%2Fweather&text=94070&user_name=Steve")
    webhook = SENDERS["slack"].sign(secret, command)
    webhook.headers["Content-Type"] = "application/x-www-form-urlencoded"
    assert post(inbox, webhook).status_code == 200
    (row,) = running.wait_rows(1, inbox.topic)
    assert json.loads(row["body"]) == {
        "command": "/weather", "text": "94070", "user_name": "Steve",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_sender_that_looks_whether_the_address_is_there_finds_it(running, sender, method):
    inbox = make_inbox(running, sender.kind, sender.secret)
    assert send(inbox, method, inbox.url).status_code == 200
    assert send(inbox, method, inbox.url + "x").status_code == 404


def test_secret_of_an_address_and_of_its_sender_is_in_no_log(running, sender):
    inbox = make_inbox(running, sender.kind, sender.secret)
    post(inbox, sender.sign(sender.secret, event(), inbox.address))
    post(inbox, sender.sign(another(sender), event(), inbox.address))
    text = "\n".join(process.log for process in running.processes)
    assert inbox.address.rpartition("/")[2] not in text
    assert sender.secret == "12345" or sender.secret not in text


@pytest.mark.parametrize("name", [name for name in SENDERS if name != "twilio"])
def test_webhook_with_a_secret_that_is_told_us_later_is_kept_and_stored_then(running, name):
    sender = SENDERS[name]
    inbox = make_inbox(running, sender.kind, sender.secret, on_invalid="quarantine")
    later, told = another(sender), event(amount=4711)
    webhook = sender.sign(later, told, inbox.address)
    assert post(inbox, webhook).is_success, "it would not come again"
    (letter,) = wait_until(lambda: dead_letters(running, inbox.topic), "it is kept", 10)
    assert letter["reason"] == "bad-signature"
    assert json.loads(letter["meta"])["verified"] is False
    redrive = f"/v1/dead-letters/{letter['seq']}/redrive"
    assert running.client.post(redrive).is_client_error
    path = f"/v1/inboxes/{inbox.topic}/secrets"
    assert running.client.post(path, json={"secret": later}).status_code == 201
    answer = running.client.post(redrive)
    assert answer.status_code == 202, answer.text
    (row,) = running.wait_rows(1, inbox.topic)
    assert json.loads(row["meta"])["verified"] is True
    assert str(json.loads(row["body"])["amount"]) == "4711"
    again = post(inbox, sender.sign(later, told, inbox.address))
    assert again.status_code == 200, again.text
    wait_drained(running)
    assert running.count(inbox.topic) == 1
    assert dead_letters(running, inbox.topic) == []


def test_webhook_whose_sender_signs_the_address_is_kept_and_stored_by_force(running):
    # What is kept of it has no address, which is a secret: nobody can check it again.
    sender = SENDERS["twilio"]
    inbox = make_inbox(running, "twilio", sender.secret, on_invalid="quarantine")
    assert post(inbox, sender.sign("another", event(amount=4711), inbox.address)).is_success
    (letter,) = wait_until(lambda: dead_letters(running, inbox.topic), "it is kept", 10)
    redrive = f"/v1/dead-letters/{letter['seq']}/redrive"
    assert running.client.post(redrive).status_code == 422
    assert running.client.post(redrive, params={"force": "true"}).status_code == 202
    (row,) = running.wait_rows(1, inbox.topic)
    assert json.loads(row["meta"])["verified"] is False
    assert "4711" in row["body"]


def dead_letters(running, topic):
    return running.query("SELECT * FROM dead_letters WHERE topic = ? ORDER BY seq", topic)
