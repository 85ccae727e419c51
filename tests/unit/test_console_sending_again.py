"""Sending a stored message again: what goes along, and that nothing goes by itself."""

import html
import json
import re

import pytest
from console_client import ConsoleClient
from store_contents import IDS, TIME

from appliance import config as configuration
from appliance.console.sending_again import again
from appliance.model.wire import single
from appliance.store.access_rows import Actor
from appliance.store.rows import StoredMessage


def stored(body=b"x", text=1, content_type=None, **headers):
    meta = json.dumps({"via": "http", "headers": headers}) if headers else None
    return StoredMessage(1, "an id", "t", TIME, text, body, content_type, meta)


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    yield client
    client.close()


def store(client, body, **options):
    message_id = IDS.new()
    writer = client.store.open_writer()
    writer.store([single("orders", message_id, TIME, body, **options)])
    writer.close()
    return message_id


def test_headers_that_say_what_a_message_is_go_along_and_its_names_stay_behind():
    found = again(
        stored(
            content_type="application/json",
            **{
                "x-github-event": "issues",
                "x-github-delivery": "72d3",
                "idempotency-key": "k",
                "webhook-id": "w",
                "ce-id": "1",
                "ce-type": "order",
                "user-agent": "Hookshot",
                "x-only-its-inbox-keeps": "1",
            },
        )
    )
    assert found.headers == {"content-type": "application/json", "x-github-event": "issues"}
    assert found.left == [
        "x-github-delivery", "idempotency-key", "webhook-id", "ce-id", "ce-type", "user-agent",
        "x-only-its-inbox-keeps",
    ]  # fmt: skip


def test_headers_that_were_written_to_do_harm_stay_behind():
    harm = {
        "x-github-a\r\nhost": "x",
        "x-github-b": "1\r\nAuthorization: Bearer x",
        "x-github-token": "x",
        "authorization": "Bearer x",
        "cookie": "appliance_session=x",
        "x-appliance-form": "x",
        "x-forwarded-for": "1.2.3.4",
        "content-length": "0",
        "transfer-encoding": "chunked",
        "prefer": "wait=60",
        "x-github-\u202e": "x",
        "": "x",
    }
    message = stored(content_type="text/plain\r\nX: y", **harm)
    assert again(message).headers == {}
    broken = message._replace(meta='{"headers": {"x-github-n": 7, "x-github-l": ["a"]}}')
    assert again(broken).headers == {}
    for meta in ("[]", "{", '{"headers": []}', '{"headers": null}', '"x"'):
        found = again(message._replace(meta=meta))
        assert (found.headers, found.left) == ({}, [])


def test_a_body_goes_through_a_form_only_where_it_comes_back_as_it_is():
    for body in (b"", b"a", "\n straße\n\n".encode(), b"x" * 40_000):
        assert again(stored(body)).text == body.decode()
    for body in (b"a\r\nb", b"\r", b"x" * 49_153, b"\n" * 9000, "ß".encode() * 9000):
        assert again(stored(body)).text is None
    assert again(stored(b"\xff", text=0)).text is None


def test_a_media_type_that_would_take_a_body_apart_is_another_one():
    kinds = {
        "application/cloudevents+json; charset=utf-8": "application/json",
        "multipart/form-data; boundary=x": "application/octet-stream",
        "text/plain; charset=utf-8": "text/plain; charset=utf-8",
    }
    for before, after in kinds.items():
        assert again(stored(content_type=before)).headers == {"content-type": after}


def test_a_page_is_filled_in_and_sends_nothing_by_itself(client):
    body = '</textarea><script>alert(1)</script>\n"q" & \u202e'
    meta = '{"headers": {"x-github-event": "<b>issues</b>", "x-\\"><script>": "1"}}'
    one = store(client, body.encode(), content_type="text/<i>", meta=meta)
    shown = client.get(f"/console/messages/{one}").text
    link = html.unescape(re.search(r'href="([^"]+)">Send again', shown)[1])
    assert link == f"/console/send?from={one}"
    page = client.get(link).text
    written = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)[1]
    assert html.unescape(written) == body
    assert "<script>alert" not in page
    assert "&lt;b&gt;issues&lt;/b&gt;" in page
    assert "send.js" not in page
    assert f'name="from" value="{one}"' in page
    keys = {re.search(r'name="key" value="([0-9a-f]{32})"', client.get(link).text)[1] for _ in "ab"}
    assert len(keys) == 2
    assert client.post(link, {"topic": "orders", "body": "x", "from": one}).status_code == 403
    assert client.store.reader.totals().messages == 1


def test_bytes_are_sent_again_out_of_the_store(client):
    one = store(client, bytes(range(256)))
    page = client.get(f"/console/send?from={one}").text
    assert "<textarea" not in page
    assert "256 B, as it came, byte for byte" in page


def test_a_message_that_is_gone_or_of_others_is_not_sent_again(client):
    one = store(client, b"theirs")
    csrf = client.form("/console/help")["csrf"]
    fields = {"csrf": csrf, "topic": "t", "from": IDS.new()}
    answer = client.post("/console/send", fields)
    assert answer.status_code == 404
    assert "Nothing was sent" in answer.text
    rights = ["read", "publish"]
    _, secret = client.services.tokens.create("a", rights, Actor("test", ""), topics=["mine.*"])
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert "theirs" not in client.get(f"/console/send?from={one}").text
    fields = {"csrf": client.form("/console/help")["csrf"], "topic": "mine.a", "from": one}
    assert client.post("/console/send", fields).status_code == 404


def test_a_token_that_only_reads_is_not_offered_to_send_again(client):
    one = store(client, b"x")
    _, secret = client.services.tokens.create("r", ["read"], Actor("test", ""))
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert "Send again" not in client.get(f"/console/messages/{one}").text
    assert client.get(f"/console/send?from={one}").status_code == 403
