"""Inbox addresses on the real appliance: each kind, signed by the sender's own library."""

import base64
import contextlib
import gzip
import hashlib
import hmac
import ipaddress
import json
import random
import sqlite3
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest
import slack_sdk.signature
import standardwebhooks
import stripe
import twilio.request_validator
from harness import START_SECONDS, wait_until

from appliance.auth.signatures.kinds import KINDS

STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def appliance(module_stack):
    return module_stack(trusted_proxies="127.0.0.1")


@pytest.fixture(scope="module")
def sender():
    """A client without any token, each of whose requests comes from another address.

    An address that is refused often is refused slowly.
    """
    addresses = ipaddress.ip_network("10.0.0.0/8").hosts()

    def come_from_elsewhere(request):
        request.headers["X-Forwarded-For"] = str(next(addresses))

    hooks = {"request": [come_from_elsewhere]}
    with httpx.Client(trust_env=False, event_hooks=hooks) as client:
        yield client


def create(stack, topic, kind, *secrets, **settings):
    """Make an inbox; return its address."""
    wanted = {"topic": topic, "kind": kind, "secrets": secrets, "settings": settings}
    answer = stack.client.post("/v1/inboxes", json=wanted)
    assert answer.status_code == 201, answer.text
    return answer.json()["address"]


def stored(stack, topic, count=1):
    """Wait for `count` rows of a topic; return the body and the meta of each."""
    stack.wait_rows(count, topic)
    rows = stack.query("SELECT body, meta FROM messages WHERE topic = ? ORDER BY seq", topic)
    assert len(rows) == count
    return [(body, json.loads(meta)) for body, meta in rows]


def github(body, secret):
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_inbox_for_a_topic_of_the_longest_name_can_be_made(appliance, sender):
    topic = "t" * 100
    address = create(appliance, topic, "open")
    assert sender.post(address, content=b"hello").status_code == 202
    assert stored(appliance, topic)[0][0] == "hello"
    assert appliance.client.get(f"/v1/inboxes/{'t' * 64}").json()["topic"] == topic


def test_a_github_webhook_is_stored_once_with_its_event(appliance, sender):
    address = create(appliance, "gh", "github", "s3cret")
    body = b'{"ref":"refs/heads/main"}'
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": github(body, "s3cret"),
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Content-Type": "application/json",
    }
    first = sender.post(address, content=body, headers=headers)
    assert first.status_code == 202
    again = sender.post(address, content=body, headers=headers)
    assert again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    ((text, meta),) = stored(appliance, "gh")
    assert text == body.decode()
    assert meta["headers"]["x-github-event"] == "push"
    assert meta["inbox"] == "gh"
    assert meta["verified"] is True
    assert meta["via"] == "http"
    assert address.rpartition("/")[2] not in json.dumps(meta)


def test_a_wrong_signature_is_refused_and_nothing_of_it_is_kept(appliance, sender):
    address = create(appliance, "gh-wrong", "github", "s3cret")
    for headers in ({}, {"X-Hub-Signature-256": github(b"{}", "other")}):
        answer = sender.post(address, content=b"{}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"].endswith(":bad-signature")
        assert answer.json()["reason"] in ("no-signature", "bad-signature")
        assert "s3cret" not in answer.text
    assert appliance.count("gh-wrong") == 0
    wait_until(lambda: "signature refused" in appliance.logs(200), "a line in the log")


def test_a_stripe_event_with_another_count_of_attempts_is_the_same_message(appliance, sender):
    address = create(appliance, "stripe", "stripe", "whsec_one", "whsec_two")
    answers = []
    for attempt, secret in ((2, "whsec_one"), (1, "whsec_two")):
        body = json.dumps({"id": "evt_1", "pending_webhooks": attempt})
        value = stripe.WebhookSignature.generate_signature_header(body, secret)
        answers.append(sender.post(address, content=body, headers={"Stripe-Signature": value}))
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    ((text, meta),) = stored(appliance, "stripe")
    assert json.loads(text)["pending_webhooks"] == 2
    assert meta["headers"]["stripe-signature"]
    assert meta["event_id"] == "evt_1"
    old = stripe.WebhookSignature.generate_signature_header("{}", "whsec_one", 1)
    late = sender.post(address, content="{}", headers={"Stripe-Signature": old})
    assert late.json()["reason"] == "too-old"


def test_an_event_sent_again_while_nothing_is_stored_is_one_row_and_no_dead_letter(stack):
    """Neither the API, which was started anew, nor the store knows of the first attempt."""
    running = stack()
    address = create(running, "again", "stripe", "whsec_one")
    (worker,) = running.workers
    worker.stop()

    def send(attempt):
        body = json.dumps({"id": "evt_1", "pending_webhooks": attempt})
        value = stripe.WebhookSignature.generate_signature_header(body, "whsec_one")
        headers = {"Stripe-Signature": value}
        return httpx.post(address, content=body, headers=headers, trust_env=False)

    assert send(2).status_code == 202
    running.api.kill()
    running.api.start()
    wait_until(lambda: running._status("/healthz") == 200, "the API", START_SECONDS)
    wait_until(lambda: send(1).status_code == 202, "the API accepts", START_SECONDS)
    worker.start()
    ((text, _),) = stored(running, "again")
    assert json.loads(text)["pending_webhooks"] == 2
    running.publish("after", b"x")
    running.wait_rows(1, "after")
    assert running.query("SELECT * FROM dead_letters") == []


def slack(body, secret="8f742231b10e8888abcd99yyyzzz85a5"):
    at = str(int(time.time()))
    verifier = slack_sdk.signature.SignatureVerifier(secret)
    code = verifier.generate_signature(timestamp=at, body=body)
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": code}


def test_a_slack_event_is_answered_with_nothing_and_its_check_with_the_challenge(appliance, sender):
    address = create(appliance, "slack", "slack", "8f742231b10e8888abcd99yyyzzz85a5")
    check = '{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7"}'
    answer = sender.post(address, content=check, headers=slack(check))
    assert answer.status_code == 200
    assert answer.text == "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7"
    assert answer.headers["content-type"].startswith("text/plain")
    assert sender.post(address, content=check).status_code == 401
    event = '{"type":"event_callback","event_id":"Ev1"}'
    for retry in range(2):
        headers = {**slack(event), "X-Slack-Retry-Num": str(retry)}
        answer = sender.post(address, content=event, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
    stored(appliance, "slack")


def test_a_shopify_webhook_is_stored(appliance, sender):
    address = create(appliance, "shop", "shopify", "s3cret")
    body = b'{"id":1}'
    code = base64.b64encode(hmac.digest(b"s3cret", body, "sha256")).decode()
    headers = {
        "X-Shopify-Hmac-Sha256": code,
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "w1",
    }
    for _ in range(2):
        assert sender.post(address, content=body, headers=headers).status_code == 200
    ((_, meta),) = stored(appliance, "shop")
    assert meta["headers"]["x-shopify-topic"] == "orders/create"


def test_a_twilio_message_is_verified_by_its_address_and_answered_in_twiml(appliance, sender):
    address = create(appliance, "sms", "twilio", "12345")
    fields = {"Body": "Hällo", "From": "+493012345", "MessageSid": "SM1"}
    code = twilio.request_validator.RequestValidator("12345").compute_signature(address, fields)
    headers = {"X-Twilio-Signature": code, "I-Twilio-Idempotency-Token": "tok-1"}
    for _ in range(2):
        answer = sender.post(address, data=fields, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/xml"
        assert "<Response></Response>" in answer.text
    ((text, meta),) = stored(appliance, "sms")
    assert json.loads(text)["Body"] == "Hällo"
    assert meta["headers"]["i-twilio-idempotency-token"] == "tok-1"
    wrong = sender.post(f"{address}?x=1", data=fields, headers=headers)
    assert wrong.status_code == 401
    assert address.rpartition("/")[2] not in wrong.text


def test_twilios_address_can_be_set_where_a_proxy_does_not_say_it(appliance, sender):
    address = create(appliance, "sms-far", "twilio", "12345", public_url="https://example.com/far/")
    known = "https://example.com/far/in/" + address.rpartition("/")[2] + "?a=1"
    code = twilio.request_validator.RequestValidator("12345").compute_signature(known, {"A": "1"})
    headers = {"X-Twilio-Signature": code}
    assert sender.post(address + "?a=1", data={"A": "1"}, headers=headers).status_code == 200


@pytest.mark.parametrize("family", ["webhook", "svix"])
def test_a_standard_webhook_is_stored_under_both_families_of_names(appliance, sender, family):
    topic = f"std-{family}"
    address = create(appliance, topic, "standard", STANDARD_SECRET)
    now = datetime.now(UTC)
    body = '{"type":"x"}'
    headers = {
        f"{family}-id": "msg_1",
        f"{family}-timestamp": str(int(now.timestamp())),
        f"{family}-signature": standardwebhooks.Webhook(STANDARD_SECRET).sign("msg_1", now, body),
    }
    codes = [sender.post(address, content=body, headers=headers).status_code for _ in range(2)]
    assert codes == [202, 200]
    ((_, meta),) = stored(appliance, topic)
    assert meta["headers"][f"{family}-id"] == "msg_1"


def test_any_other_hmac_is_verified_by_the_settings_of_its_address(appliance, sender):
    address = create(
        appliance, "till", "hmac", "s3cret", header="X-Sig", prefix="v0=", encoding="base64",
        hash="sha512", template="v0:{timestamp}:{body}", timestamp_header="X-Time",
        key_path="$.n", keep=["x-t*"],
    )  # fmt: skip
    at = str(int(time.time()))
    for body in (b'{"n":7,"try":1}', b'{"n":7,"try":2}'):
        code = base64.b64encode(hmac.digest(b"s3cret", b"v0:%b:%b" % (at.encode(), body), "sha512"))
        headers = {"X-Sig": "v0=" + code.decode(), "X-Time": at, "X-Till": "3"}
        assert sender.post(address, content=body, headers=headers).status_code in (200, 202)
    ((text, meta),) = stored(appliance, "till")
    assert json.loads(text)["try"] == 1
    assert meta["headers"]["x-till"] == "3"
    assert meta["headers"]["x-sig"].startswith("v0=")
    assert meta["headers"]["x-time"] == at


def test_a_packed_body_is_verified_as_it_came_and_has_its_key_within(appliance, sender):
    address = create(appliance, "packed", "github", "s3cret", key_path="$.id")
    codes = []
    for attempt in (1, 2):
        body = gzip.compress(json.dumps({"id": "e1", "attempt": attempt}).encode())
        headers = {"X-Hub-Signature-256": github(body, "s3cret"), "Content-Encoding": "gzip"}
        codes.append(sender.post(address, content=body, headers=headers).status_code)
    assert codes == [202, 200]
    ((text, _),) = stored(appliance, "packed")
    assert json.loads(text)["attempt"] == 1


def test_a_batch_at_an_inbox_is_a_row_for_each_line(appliance, sender):
    address = create(appliance, "lines", "open", key_path="$.id")
    kind = {"Content-Type": "application/x-ndjson"}
    answer = sender.post(address, content=b'{"id":1}\n{"id":1}\n', headers=kind)
    assert answer.json()["count"] == 2
    answer = sender.post(f"{address}?split=lines&on-bad=dead-letter", content=b"a\nb\n")
    assert answer.json()["count"] == 2
    stored(appliance, "lines", 4)


def test_two_inboxes_of_one_topic_have_keys_of_their_own(appliance, sender):
    for name in ("kitchen", "cellar"):
        wanted = {"topic": "counts", "name": name, "settings": {"key_path": "$.n"}}
        address = appliance.client.post("/v1/inboxes", json=wanted).json()["address"]
        assert sender.post(address, content='{"n":1}').status_code == 202
    assert [meta["inbox"] for _, meta in stored(appliance, "counts", 2)] == ["kitchen", "cellar"]


def test_an_idempotency_key_with_another_body_is_refused_as_everywhere(appliance, sender):
    address = create(appliance, "keyed", "open")
    key = {"Idempotency-Key": "k1"}
    assert sender.post(address, content="one", headers=key).status_code == 202
    assert sender.post(address, content="one", headers=key).status_code == 200
    assert sender.post(address, content="two", headers=key).status_code == 422
    ((_, meta),) = stored(appliance, "keyed")
    assert "verified" not in meta


def test_a_form_is_answered_with_a_page_a_redirect_or_json(appliance, sender):
    page = create(appliance, "form-page", "form")
    answer = sender.post(page, data={"name": "Ada"})
    assert answer.status_code == 200
    assert "Thank you" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    redirect = create(appliance, "form-to", "form", redirect="https://example.com/thanks?a=1")
    answer = sender.post(redirect, data={"name": "Ada"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "https://example.com/thanks?a=1"
    answer = sender.post(redirect, data={"name": "Ada"}, headers={"Accept": "application/json"})
    assert answer.status_code == 202
    (first, _), _ = stored(appliance, "form-to", 2)
    assert json.loads(first) == {"name": "Ada"}


def test_an_answer_can_be_set(appliance, sender):
    address = create(
        appliance, "answer", "open",
        answer={"status": 201, "body": '{"ok":true}', "content_type": "application/json"},
    )  # fmt: skip
    answer = sender.post(address, content="x")
    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    quiet = create(appliance, "answer-none", "open", answer={"status": 204})
    answer = sender.post(quiet, content="x")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_script_of_a_named_origin_may_post_and_read_the_answer(appliance, sender):
    address = create(appliance, "cors", "open", origins=["https://example.com"])
    preflight = {
        "Origin": "https://example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-any",
    }
    answer = sender.options(address, headers=preflight)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    assert answer.headers["access-control-allow-headers"] == "content-type,x-any"
    assert "POST" in answer.headers["access-control-allow-methods"]
    answer = sender.post(address, content="x", headers={"Origin": "https://example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    refused = sender.post(address, content="", headers={"Origin": "https://example.com"})
    assert refused.status_code == 400
    assert refused.headers["access-control-allow-origin"] == "https://example.com"
    for other in ("https://example.org", "null"):
        answer = sender.options(address, headers={**preflight, "Origin": other})
        assert "access-control-allow-origin" not in answer.headers
        answer = sender.post(address, content="x", headers={"Origin": other})
        assert answer.status_code == 202
        assert "access-control-allow-origin" not in answer.headers
    silent = create(appliance, "cors-none", "open")
    assert "access-control-allow-origin" not in sender.options(silent, headers=preflight).headers


def test_a_senders_look_at_an_address_is_answered_200_and_not_kept(appliance, sender):
    for kind, secrets in (("open", ()), ("github", ("s",))):
        address = create(appliance, f"look-{kind}", kind, *secrets)
        assert sender.head(address).status_code == 200
        assert sender.get(address).status_code == 200
        hub = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "x"}
        answer = sender.get(address, params=hub)
        assert (answer.status_code, answer.text) == (200, "1158201444")
        assert answer.headers["content-type"].startswith("text/plain")
        assert sender.get(address, params={"challenge": "abc"}).text == "abc"
        answer = sender.options(address, headers={"WebHook-Request-Origin": "eventgrid.example"})
        assert answer.status_code == 200
        assert answer.headers["webhook-allowed-origin"] == "eventgrid.example"
        assert appliance.count(f"look-{kind}") == 0
        assert sender.delete(address).status_code == 405
    address = create(appliance, "look-grid", "open")
    event = [{"data": {"validationCode": "512d38b6"}, "eventType": "x"}]
    headers = {"aeg-event-type": "SubscriptionValidation"}
    answer = sender.post(address, json=event, headers=headers)
    assert answer.json() == {"validationResponse": "512d38b6"}
    answer = sender.post(address, params={"validationToken": "Validation: 1+1"})
    assert (answer.status_code, answer.text) == (200, "Validation: 1+1")
    assert appliance.count("look-grid") == 0


def test_zooms_check_is_answered_with_a_signature_of_its_token(appliance, sender):
    address = create(
        appliance, "zoom", "hmac", "s3cret", header="x-zm-signature", prefix="v0=",
        template="v0:{timestamp}:{body}", timestamp_header="x-zm-request-timestamp",
        challenge="zoom",
    )  # fmt: skip
    at = str(int(time.time()))
    body = '{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}'
    code = hmac.new(b"s3cret", f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
    headers = {"x-zm-request-timestamp": at, "x-zm-signature": f"v0={code}"}
    answer = sender.post(address, content=body, headers=headers)
    right = hmac.new(b"s3cret", b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert answer.json() == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": right}


def test_a_get_is_a_message_where_the_address_allows_it(appliance, sender):
    address = create(appliance, "esp", "open", allow_get=True)
    answer = sender.get(
        address,
        params=[("t", "21.5"), ("room", "k\u00fcche"), ("x", "1"), ("x", "2"), ("line", "7")],
    )
    assert answer.status_code == 202
    assert sender.get(address).status_code == 200
    assert sender.head(address, params={"t": "1"}).status_code == 200
    ((text, meta),) = stored(appliance, "esp")
    assert json.loads(text) == {"t": "21.5", "room": "küche", "x": ["1", "2"], "line": "7"}
    assert meta["method"] == "GET"
    strict = create(appliance, "esp-not", "open")
    assert sender.get(strict, params={"t": "1"}).status_code == 200
    assert appliance.count("esp-not") == 0


def test_an_unknown_address_is_404_whatever_is_asked_of_it(appliance, sender):
    answers = [
        sender.request(method, f"{appliance.url}/in/{secret}", content=content)
        for method in ("POST", "GET", "PUT", "DELETE")
        for secret in ("x", "A" * 43, "a/b", "%00", "")
        for content in ("", "x")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1


def test_a_revoked_address_is_unknown_at_once_also_on_a_connection_that_was_let_in(appliance):
    address = create(appliance, "revoked", "open")
    with httpx.Client(trust_env=False) as device:
        for _ in range(3):
            assert device.post(address, content="x").status_code == 202
        assert appliance.client.delete("/v1/inboxes/revoked").status_code == 204
        assert device.post(address, content="x").status_code == 404
    assert appliance.client.delete("/v1/inboxes/revoked").status_code == 404
    assert len(stored(appliance, "revoked", 3)) == 3


def test_a_rotated_address_has_two_secrets_as_long_as_it_is_told(appliance, sender):
    old = create(appliance, "rotated", "open")
    answer = appliance.client.post("/v1/inboxes/rotated/rotate", json={"old_for": "1h"})
    middle = answer.json()["address"]
    assert {sender.post(each, content="x").status_code for each in (old, middle)} == {202}
    assert appliance.client.get("/v1/inboxes/rotated").json()["addresses"] == 2
    answer = appliance.client.post("/v1/inboxes/rotated/rotate", json={"old_for": "0s"})
    new = answer.json()["address"]
    codes = [sender.post(each, content="x").status_code for each in (old, middle, new)]
    assert codes == [404, 404, 202]


def test_a_signing_secret_is_rotated_with_both_counting_meanwhile(appliance, sender):
    address = create(appliance, "resigned", "github", "one")

    def code(secret):
        headers = {"X-Hub-Signature-256": github(b"{}", secret)}
        return sender.post(address, content=b"{}", headers=headers).status_code

    path = "/v1/inboxes/resigned"
    assert (code("one"), code("two")) == (202, 401)
    added = appliance.client.post(f"{path}/secrets", json={"secret": "two"})
    assert added.status_code == 201
    assert (code("one"), code("two")) == (202, 202)
    first = appliance.client.get(path).json()["secrets"][0]["id"]
    assert appliance.client.delete(f"{path}/secrets/{first}").status_code == 204
    assert (code("one"), code("two")) == (401, 202)
    assert appliance.client.delete(f"{path}/secrets/{first}").status_code == 404
    assert appliance.client.delete(f"{path}/secrets/{added.json()['id']}").status_code == 400
    assert appliance.client.delete(f"{path}/secrets/{10**30}").status_code == 404


def test_an_inbox_that_someone_spoiled_by_sql_is_503_and_said_in_the_log(appliance, sender):
    address = create(appliance, "spoiled", "open")
    with contextlib.closing(sqlite3.connect(appliance.database, timeout=10)) as connection:
        connection.execute("UPDATE inboxes SET settings = '{\"colour\":1}' WHERE name = 'spoiled'")
        connection.commit()
    wait_until(lambda: sender.post(address, content=b"x").status_code == 503, "503", 5)
    assert sender.get(address).status_code == 503
    assert "inbox unusable" in appliance.logs(200)
    repaired = appliance.client.patch("/v1/inboxes/spoiled", json={"settings": {"colour": None}})
    assert repaired.status_code == 200
    assert sender.post(address, content=b"x").status_code == 202


def test_an_open_inbox_becomes_one_with_a_signature(appliance, sender):
    address = create(appliance, "grown", "open")
    changed = appliance.client.patch(
        "/v1/inboxes/grown", json={"kind": "github", "secrets": ["s3cret"]}
    )
    assert changed.status_code == 200
    assert len(changed.json()["secrets"]) == 1
    assert sender.post(address, content=b"{}").status_code == 401
    headers = {"X-Hub-Signature-256": github(b"{}", "s3cret")}
    assert sender.post(address, content=b"{}", headers=headers).status_code == 202


def test_an_inbox_takes_no_more_than_its_rate(appliance, sender):
    address = create(appliance, "rated", "open", rate="3/h")
    answers = [sender.post(address, content=b"x") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert int(answers[-1].headers["Retry-After"]) > 1000
    assert len(stored(appliance, "rated", 3)) == 3
    appliance.client.patch("/v1/inboxes/rated", json={"settings": {"rate": None}})
    assert sender.post(address, content=b"x").status_code == 202


def test_an_inbox_is_changed_and_keeps_its_address(appliance, sender):
    address = create(appliance, "change-a", "open", answer={"status": 204})
    path = "/v1/inboxes/change-a"
    changes = {"topic": "change-b", "settings": {"answer": None, "key_path": "$.id"}}
    changed = appliance.client.patch(path, json=changes)
    assert changed.status_code == 200
    assert changed.json()["settings"] == {"key_path": "$.id"}
    assert sender.post(address, content='{"id":"1"}').status_code == 202
    stored(appliance, "change-b")
    assert appliance.client.patch(path, json={"kind": "github"}).status_code == 400
    assert appliance.client.patch(path, json={"settings": {"colour": 1}}).status_code == 400
    assert appliance.client.patch("/v1/inboxes/none", json={}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"topic":"Orders"}', b'{"topic":"a","kind":"gitlab"}',
        b'{"topic":"a","kind":7}', b'{"topic":"a","kind":"github"}', b'{"topic":"a","x":1}',
        b'{"topic":"a","kind":"github","secrets":[7]}', b'{"topic":"a","secrets":["s"]}',
        b'{"topic":"a","name":"administrator"}', b'{"topic":"a","settings":{"header":"x"}}',
    ],
)  # fmt: skip
def test_a_wish_for_an_inbox_that_makes_no_sense_is_refused_in_words(appliance, body):
    answer = appliance.client.post("/v1/inboxes", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_an_inboxs_secrets_are_shown_once_and_in_no_log_and_no_file(appliance, sender):
    address = create(appliance, "quiet", "github", "signing-s3cret")
    secret = address.rpartition("/")[2]
    sender.post(address, content=b"{}", headers={"X-Hub-Signature-256": github(b"{}", "other")})
    sender.post(address + "/../x", content=b"{}")
    sender.get(address, params={"a": "b"})
    for path in ("/v1/inboxes", "/v1/inboxes/quiet"):
        shown = appliance.client.get(path).text
        assert secret not in shown
        assert "signing-s3cret" not in shown
    logs = appliance.logs(10_000)
    assert "signature refused" in logs
    assert secret not in logs
    assert "signing-s3cret" not in logs
    for file in appliance.database.parent.rglob("*"):
        if file.is_file() and file.stat().st_size < 2**26:
            assert secret.encode() not in file.read_bytes(), file


HOSTILE_HEADERS = [
    b"", b"\xff\xfe", b"v1", b"v1,", b"t=,v1=", b"t=1,v1=zz", b"sha256=", b"sha256=" + b"0" * 63,
    b"v0=00", b"=" * 500, b"v1,AAAA " * 2000, b"v1=00," * 4000, b"9" * 400, b"-1", b"1e400",
    b"application/x-www-form-urlencoded; charset=\xff", b"multipart/form-data", b"gzip",
]  # fmt: skip
HOSTILE_BODIES = [
    b"", b"\x00", b"\xff\xfe\x00", b"[" * 5000, b'{"id":' * 3000, b"&" * 5000, b"%" * 5000,
    b'{"id":"\\ud800"}', b'{"type":"url_verification","challenge":{}}', b"a=1&a=1",
]  # fmt: skip


HOSTILE_NAMES = [
    "X-Hub-Signature-256", "Stripe-Signature", "X-Slack-Signature", "X-Slack-Request-Timestamp",
    "X-Shopify-Hmac-Sha256", "X-Twilio-Signature", "webhook-id", "webhook-timestamp",
    "webhook-signature", "svix-signature", "x-signature", "x-timestamp", "Content-Type",
    "Content-Encoding", "X-GitHub-Delivery", "Idempotency-Key", "Origin", "Accept",
    "I-Twilio-Idempotency-Token", "aeg-event-type",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_request_is_refused_or_kept_and_never_a_fault(appliance, sender, kind):
    settings = {"origins": ["*"]}
    if kind == "hmac":
        settings |= {"header": "x-signature", "timestamp_header": "x-timestamp"}
        settings |= {"template": "{timestamp}{body}", "challenge": "zoom"}
    is_signed = KINDS[kind].is_signed
    secrets = [STANDARD_SECRET] if is_signed else []
    address = create(appliance, f"hostile-{kind}", kind, *secrets, **settings)
    choose = random.Random(kind)
    for _ in range(100):
        names = choose.sample(HOSTILE_NAMES, 6)
        headers = {name: choose.choice(HOSTILE_HEADERS).strip() for name in names}
        body = choose.choice(HOSTILE_BODIES)
        answer = sender.post(address, content=body, headers=headers)
        assert answer.status_code < 500, (headers, body, answer.text)
        if is_signed:
            assert answer.status_code in (400, 401, 415, 431), (headers, answer.text)
    assert not is_signed or appliance.count(f"hostile-{kind}") == 0
    assert "request failed" not in appliance.logs(100_000)


def test_a_large_body_with_a_wrong_signature_holds_nobody_up(appliance, sender):
    """Its hash takes 10 ms: a thread makes it, and health is answered meanwhile."""
    address = create(appliance, "large", "github", "s3cret")
    body = b"x" * 1_000_000
    stop = threading.Event()

    def attack():
        with httpx.Client(trust_env=False) as attacker:
            while not stop.is_set():
                headers = {"X-Hub-Signature-256": github(b"", "s3cret")}
                assert attacker.post(address, content=body, headers=headers).status_code == 401

    threads = [threading.Thread(target=attack) for _ in range(4)]
    for thread in threads:
        thread.start()
    waits = []
    try:
        for _ in range(100):
            began = time.monotonic()
            assert sender.get(f"{appliance.url}/healthz").status_code == 200
            waits.append(time.monotonic() - began)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(waits)[50] < 0.1
    assert appliance.count("large") == 0


def run(stack, *arguments, status=0, **options):
    """Run `appliance inbox`; return what it prints."""
    done = stack.cli("inbox", *arguments, **options)
    assert done.returncode == status, done.stderr
    return (done.stdout + done.stderr if status else done.stdout).decode().strip()


def test_the_command_line_makes_lists_changes_rotates_and_revokes(appliance, sender, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("It's a Secret to Everybody\n")
    address = run(appliance, "create", "cli", "--kind", "github", "--secret-file", str(secret))
    code = github(b"Hello, World!", "It's a Secret to Everybody")
    headers = {"X-Hub-Signature-256": code}
    assert sender.post(address, content=b"Hello, World!", headers=headers).status_code == 202
    assert "github" in run(appliance, "list")
    changed = run(appliance, "change", "cli", "--keep", "X-Till", "--answer-status", "204")
    assert "x-till" in changed.lower()
    assert sender.post(address, content=b"Hello, World!", headers=headers).status_code == 204
    run(appliance, "add-secret", "cli", "--secret-file", "-", input=b"two\n")
    shown = json.loads(run(appliance, "show", "cli", "--json"))
    assert len(shown["secrets"]) == 2
    run(appliance, "remove-secret", "cli", str(shown["secrets"][0]["id"]))
    assert sender.post(address, content=b"Hello, World!", headers=headers).status_code == 401
    rotated = run(appliance, "rotate", "cli", "--old-for", "0s")
    assert (sender.head(address).status_code, sender.head(rotated).status_code) == (404, 200)
    run(appliance, "revoke", "cli", "--yes")
    assert sender.head(rotated).status_code == 404
    assert "there is no inbox cli" in run(appliance, "show", "cli", status=1)
    assert "hmac" in run(appliance, "kinds")


def test_the_audit_trail_names_who_made_an_inbox_and_no_secret(appliance):
    address = create(appliance, "audited", "github", "audit-s3cret")
    rows = appliance.query("SELECT * FROM audit WHERE target = 'audited'")
    text = repr([tuple(row) for row in rows])
    assert "inbox-create" in text
    assert "administrator" in text
    assert "audit-s3cret" not in text
    assert address.rpartition("/")[2] not in text
