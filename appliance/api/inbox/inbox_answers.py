"""The answers of an inbox address: as its sender, or a browser, needs them. Pure."""

from collections.abc import Mapping
from typing import Final

from appliance.api.http import response
from appliance.api.http.head import Head
from appliance.api.inbox import challenges
from appliance.api.publish.receipt import Receipt
from appliance.auth.inbox_settings import InboxRules
from appliance.auth.signatures.kinds import FixedAnswer

#: Methods of an address, as an answer names them.
METHODS: Final = "GET, HEAD, OPTIONS, POST, PUT"
#: With every answer of an address: it is a secret, so no other page is told of it, and nothing of
#: it is kept; what it says is not taken for something else.
_ALWAYS: Final = (
    b"cache-control: no-store\r\nreferrer-policy: no-referrer\r\n"
    b"x-content-type-options: nosniff\r\n"
)
#: Headers of an answer that a script of another origin may read.
_EXPOSED: Final = b"access-control-expose-headers: location, retry-after\r\n"
#: Seconds for which a browser keeps the answer to a preflight.
_PREFLIGHT_SECONDS: Final = 600
#: Bytes of what is repeated of a preflight.
_MAX_ECHO: Final = 512

_THANKS: Final = FixedAnswer(
    200,
    "text/html; charset=utf-8",
    b"<!doctype html>\n"
    b'<html lang="en"><head><meta charset="utf-8"><title>Thank you</title>\n'
    b'<meta name="viewport" content="width=device-width, initial-scale=1"></head>\n'
    b"<body><h1>Thank you</h1><p>Your message has arrived.</p></body></html>\n",
)

Reply = tuple[int, bytes, bytes]


def of_receipt(
    receipt: Receipt, head: Head, rules: InboxRules, wait_seconds: float | None, prefix: str
) -> Reply:
    """Return status, headers and body of the answer to a message that is kept.

    The same message again is 200: it was not kept a second time.
    """
    if rules.kind.name == "form" and not rules.answer:
        if b"application/json" not in head.values.get(b"accept", b""):
            return _of_form(head, rules)
    elif rules.answer:
        return fixed(rules.answer, head, rules)
    status, headers, body = receipt.answer(wait_seconds, prefix)
    if receipt.is_repeat:
        status = 200
    return status, headers + common(head, rules), body


def fixed(answer: FixedAnswer, head: Head, rules: InboxRules) -> Reply:
    """Return a fixed answer."""
    headers = common(head, rules)
    if answer.content_type:
        headers += response.lines([("content-type", answer.content_type)])
    return answer.status, headers, answer.body


def of_get(head: Head, rules: InboxRules) -> Reply:
    """Return the answer to a GET or HEAD that brings no message."""
    return fixed(challenges.of_get(head), head, rules)


def of_options(head: Head, rules: InboxRules) -> Reply:
    """Return the answer to OPTIONS: a browser's preflight, or the check of a CloudEvents sender."""
    headers = common(head, rules) + b"allow: %b\r\n" % METHODS.encode()
    values = head.values
    asker = values.get(b"webhook-request-origin", b"").strip()
    if asker and _may_be_repeated(asker):
        headers += b"webhook-allowed-origin: %b\r\n" % asker
        headers += b"webhook-allowed-rate: *\r\n"
        return 200, headers, b""
    if allowed_origin(head, rules):
        headers += b"access-control-allow-methods: GET, POST, PUT\r\n"
        headers += b"access-control-max-age: %d\r\n" % _PREFLIGHT_SECONDS
        wanted = values.get(b"access-control-request-headers", b"").strip()
        if wanted and _may_be_repeated(wanted):
            headers += b"access-control-allow-headers: %b\r\n" % wanted
    return 204, headers, b""


def common(head: Head, rules: InboxRules) -> bytes:
    """Return the headers of every answer."""
    if not rules.settings.origins:
        return _ALWAYS
    headers = _ALWAYS + b"vary: origin\r\n"
    origin = allowed_origin(head, rules)
    return (
        headers + b"access-control-allow-origin: %b\r\n" % origin + _EXPOSED if origin else headers
    )


def problem_headers(head: Head, rules: InboxRules) -> Mapping[str, str]:
    """Return what a problem's headers need, so that a script can read why it was refused."""
    lines = common(head, rules).decode("latin-1").split("\r\n")
    return dict(line.split(": ", 1) for line in lines if line)


def allowed_origin(head: Head, rules: InboxRules) -> bytes:
    """Return the origin that may read the answers; empty where the request's may not."""
    origins = rules.settings.origins
    if "*" in origins:
        return b"*"
    origin = head.values.get(b"origin", b"").strip()
    return origin if origin.decode("latin-1").lower() in origins else b""


def _of_form(head: Head, rules: InboxRules) -> Reply:
    target = rules.settings.redirect
    if target is None:
        return fixed(_THANKS, head, rules)
    return 303, common(head, rules) + response.lines([("location", target)]), b""


def _may_be_repeated(value: bytes) -> bool:
    return len(value) <= _MAX_ECHO and value.isascii() and value.decode("latin-1").isprintable()
