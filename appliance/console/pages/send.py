"""Sending by hand: one message, each line, or files, with the answer in words.

A form without scripts comes here, and goes on to the API with the session's own cookie, so that it
is taken in as every other message is. With scripts the page asks the API itself. A stored message
that is sent again comes here too: its headers, and a body that no form can carry, are in the store.
"""

import re
import secrets
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from flask import Blueprint, render_template, request

from appliance.auth.principal import Right
from appliance.client import Answer, ApiConnection, NoAnswerError, find_api
from appliance.console import session_cookie
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs, patterns, principal
from appliance.console.sending_again import Again, again
from appliance.errors import ClientError
from appliance.model.ids import is_id

#: Topics that the field for the topic offers.
_OFFERED: Final = 200
#: Seconds for the API's answer: longer than its own deadline.
_ANSWER_SECONDS: Final = 30.0
#: Seconds for which the answer waits for the row, where that is wished.
WAIT_SECONDS: Final = 5
#: How a body is taken: the value of `split`, and what it is called.
KINDS: Final = (
    ("", "one message"),
    ("lines", "each line a message"),
    ("ndjson", "each line a message, in JSON"),
    ("array", "each element of a JSON array a message"),
)

#: Headers that such a body needs.
_MEDIA_TYPES: Final = {
    "ndjson": {"Content-Type": "application/x-ndjson"},
    "array": {"Content-Type": "application/json"},
}
#: What a form's page shows again when it was sent.
_FIELDS: Final = ("topic", "body", "split", "key", "wait", "along")


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/send."""

    @views.get("/send")
    @needs(Right.PUBLISH)
    def show_send() -> str:
        before = _before(parts, request.args.get("from", ""))
        topic = request.args.get("topic", "") or (before.message.topic if before else "")
        values = {"topic": topic, "body": before.text or "" if before else ""}
        return _page(parts, values, before=before)

    @views.post("/send")
    @needs(Right.PUBLISH)
    def send() -> str:
        form = request.form
        topic, split = form.get("topic", "").strip(), form.get("split", "")
        before = _before(parts, form.get("from", ""))
        if before is None and form.get("from"):
            raise PageError(404, "The message is not there any more. Nothing was sent.")
        if split not in dict(KINDS) or (split and before is not None):
            raise PageError(400, "The form asks for a way of splitting that there is not.")
        headers = dict(_MEDIA_TYPES.get(split, {}))
        if before is not None and "along" in form:
            headers |= {name: _as_bytes(value) for name, value in before.headers.items()}
        if key := form.get("key", "").strip():
            headers["Idempotency-Key"] = _one_line(key)
        if "wait" in form:
            headers["Prefer"] = f"wait={WAIT_SECONDS}"
        if before is not None and before.text is None:
            body = before.message.body
        else:
            # A form's field comes with CRLF, whatever was typed.
            body = form.get("body", "").replace("\r\n", "\n").encode("utf-8", "replace")
        path = f"/v1/topics/{quote(topic, safe='')}/messages{f'?split={split}' if split else ''}"
        answer = _ask(parts, path, body, headers)
        values = {name: form.get(name, "") for name in _FIELDS}
        if before is not None and answer.status < HTTPStatus.BAD_REQUEST:
            del values["key"]  # once more is another message
        return _page(parts, values, answer, before)


def _page(
    parts: ConsoleParts,
    values: dict[str, Any],
    answer: Answer | None = None,
    before: Again | None = None,
) -> str:
    can_read = principal().may(Right.READ)
    topics = parts.reader.topics(limit=_OFFERED, patterns=patterns()) if can_read else []
    shown: dict[str, Any] = {}
    if answer is not None:
        try:
            shown = answer.json()
        except ClientError:
            shown = {"detail": answer.detail}
    return render_template(
        "console/send.html",
        # With a key of its own a form that is sent twice, by a hasty click, is one message.
        values={"wait": "on", "along": "on", "key": secrets.token_hex(16) if before else ""}
        | values,
        before=before,
        topics=[each.topic for each in topics],
        kinds=KINDS,
        status=None if answer is None else answer.status,
        answer=shown,
        wait_seconds=WAIT_SECONDS,
        most_bytes=parts.config.max_message_bytes,
    )


def _ask(parts: ConsoleParts, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Ask the API of this process, as the session that is signed in."""
    config = replace(parts.config, url="")
    own = {
        "Cookie": request.headers.get("Cookie", ""),
        "X-Appliance-Form": session_cookie.form_token(),
        "User-Agent": _one_line(request.headers.get("User-Agent", "console"))[:200],
    }
    link = ApiConnection(find_api(config).url, own, _ANSWER_SECONDS, config.tls_cert)
    try:
        return link.send("POST", path, body, headers)
    except NoAnswerError as error:
        raise PageError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The API did not answer. Whether the message was kept is not known: send it again "
            "with the same idempotency key if it had one, else look whether it is there.",
        ) from error
    finally:
        link.close()


def _before(parts: ConsoleParts, name: str) -> Again | None:
    """Return the message of this id, to be sent again; None where the user can't read one."""
    row = parts.reader.message(name) if is_id(name) else None
    if row is None or not principal().may(Right.READ, row.topic):
        return None
    return again(row)


def _as_bytes(text: str) -> str:
    """Return a header's value so that it goes out in UTF-8, as it came."""
    return text.encode().decode("latin-1")


def _one_line(text: str) -> str:
    """Return a text as a header can have it."""
    return re.sub(r"[^\x20-\x7e]", "?", text)
