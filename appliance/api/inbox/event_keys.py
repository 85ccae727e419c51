"""The key of a message at an inbox address: the id that its sender gave the event. Pure.

Senders send an event again until it is taken, and count their attempts in the body or in headers
(Stripe's `pending_webhooks`, Slack's `X-Slack-Retry-Num`). It is the same message all the same, so
under such a key the first body counts. An `Idempotency-Key` is different: whoever writes it says
that the body is the same, and another body is refused.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

from appliance.api.http.head import Head
from appliance.auth.inbox_settings import InboxRules

#: Characters of an event's id that are kept beside its message; all of it makes the key.
MOST_SHOWN: Final = 255


class EventKey(NamedTuple):
    """The key of a message. `is_senders` is whether it is the sender's own id of the event."""

    text: str
    is_senders: bool


def has_header(head: Head, rules: InboxRules) -> bool:
    """Whether one of the headers has the key: such a head comes once."""
    return b"idempotency-key" in head.values or any(
        name in head.values for name in rules.key_headers
    )


def find(head: Head, body: bytes | None, rules: InboxRules) -> EventKey | None:
    """Return the key of a message; None where it has none.

    `body` is None where a request is several messages: the body has no place for one key then.
    """
    return find_among(head.values, body, rules)


def find_among(
    headers: Mapping[bytes, bytes], body: bytes | None, rules: InboxRules
) -> EventKey | None:
    """Return the key of a message that came with these headers, as `find` does."""
    for name in rules.key_headers:
        if value := headers.get(name, b"").strip():
            return EventKey(value.decode("latin-1"), is_senders=True)
    if rules.key_path is not None and body is not None and (text := _in_body(body, rules)):
        return EventKey(text, is_senders=True)
    value = headers.get(b"idempotency-key", b"").strip()
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return EventKey(value.decode("latin-1"), is_senders=False) if value else None


def scoped(inbox: str, key: EventKey) -> str:
    """Return the key among all keys of a topic: two tills that each count from 1 don't collide.

    A zero byte is in no name, and in no key that comes with a token.
    """
    return f"{inbox}\0{key.text}"


def _in_body(body: bytes, rules: InboxRules) -> str:
    assert rules.key_path is not None  # noqa: S101  # asked before
    try:
        value = rules.key_path.find(orjson.loads(body))
    except orjson.JSONDecodeError:
        return ""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
