"""Sending a stored message again: its body, and the headers that go along with it. Pure.

The message becomes a new one. So the headers by which the API would know it for the old one stay
behind, and so do those that it does not keep, or that say who sent it: that is somebody else now.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus

from appliance.console.message_facts import meta_members
from appliance.model.kept_headers import KEY_HEADERS, is_telling
from appliance.model.meta import may_be_kept
from appliance.store.rows import StoredMessage

#: Bytes of a form's field that a page can send without scripts, as a form writes them.
_FIELD_BYTES: Final = 48 * 1024
#: How media types begin by which the API would take a body apart, or know an event for the old one;
#: and what the body is called instead.
_INSTEAD: Final = {
    "application/cloudevents": "application/json",
    "multipart/": "application/octet-stream",
}
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Again:
    """A message to be sent again.

    `text` is its body where a form can carry it without changing a byte; None: the body is taken
    from the store. `headers` go along, as the API takes them; `left` are names of those that don't.
    """

    message: StoredMessage
    text: str | None
    headers: dict[str, str]
    left: list[str]


def again(message: StoredMessage) -> Again:
    """Return what it takes to send a message again."""
    headers: dict[str, str] = {}
    left: list[str] = []
    if message.content_type and not _CONTROL.search(message.content_type):
        headers["content-type"] = _media_type(message.content_type)
    kept = meta_members(message.meta).get("headers")
    for name, value in kept.items() if isinstance(kept, dict) else ():
        if _goes_along(name, value):
            headers[name] = value
        else:
            left.append(name)
    return Again(message, _text(message), headers, left)


def _media_type(content_type: str) -> str:
    lower = content_type.strip().lower()
    return next((to for begin, to in _INSTEAD.items() if lower.startswith(begin)), content_type)


def _goes_along(name: str, value: object) -> bool:
    """Whether a header goes along; whoever wrote it into the database may have meant harm."""
    if not isinstance(value, str) or _CONTROL.search(value) or not _NAME.fullmatch(name):
        return False
    is_key = name in KEY_HEADERS or name.startswith("ce-")
    return is_telling(name) and may_be_kept(name) and not is_key


def _text(message: StoredMessage) -> str | None:
    """Return a body as text, where a form's field gives it back as it is."""
    if not message.text or b"\r" in message.body or b"\0" in message.body:
        return None
    if len(message.body) > _FIELD_BYTES:
        return None
    text = message.body.decode(errors="replace")
    return text if len(quote_plus(text.replace("\n", "\r\n"))) <= _FIELD_BYTES else None
