"""The bad lines of a batch become dead letters, and the good ones are kept, in order. Pure."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from appliance.api.bodies.json_texts import JsonTextError, check_json
from appliance.api.bodies.plan import Form
from appliance.config import Config
from appliance.errors import BodyError, TooLargeError
from appliance.model import meta as metas
from appliance.model.ids import ids_from
from appliance.model.wire import Envelope, Message, pack

#: Reasons of dead letters; programs compare them.
NOT_JSON: Final = "not-json"
TOO_LARGE: Final = "too-large"
BAD_EVENT: Final = "bad-event"

#: Bad lines in one request: a body with more of them is not what its sender thinks it is.
MAX_BAD: Final = 10_000
#: Bytes of meta that the dead letters of one request have together. Beyond, each has a short one.
_META_BYTES: Final = 4 * 2**20
#: Numbers of lines that an answer lists.
_LISTED: Final = 100
#: Characters of an error.
_ERROR_LENGTH: Final = 300


class BadLine(NamedTuple):
    """A line that becomes a dead letter: its place among the lines, its number, and why.

    The number is 0 where the message is none of many. `quarantine` is whose fault it is kept for,
    such as `inbox github`; None where the sender asked for dead letters.
    """

    place: int
    line: int
    reason: str
    error: str
    quarantine: str | None = None


def find(
    form: Form, body: bytes, lines: Sequence[bytes], config: Config, first_line: int
) -> list[BadLine]:
    """Return the bad lines of a body, in order; `first_line` is the number of its first line.

    Raises BodyError where there is no line or nearly all are bad, TooLargeError for too many lines.
    """
    if not lines:
        raise BodyError("the body has no line that is not empty")
    if len(lines) > config.max_batch_messages:
        raise TooLargeError(
            f"{len(lines)} messages in one request; the limit is {config.max_batch_messages}"
        )
    longest = config.max_message_bytes
    found = []
    for place, line in enumerate(lines):
        if len(line) > longest:
            found.append((place, TOO_LARGE, f"longer than {longest} bytes"))
        elif form is Form.NDJSON:
            try:
                check_json(line)
            except JsonTextError as error:
                found.append((place, NOT_JSON, f"not JSON ({error})"))
    return told("line", found, line_numbers(body, first_line)) if found else []


def told(what: str, found: Sequence[tuple[int, str, str]], numbers: Sequence[int]) -> list[BadLine]:
    """Return bad messages of a batch; each was found with its place, the reason, and why in words.

    `what` is what a message is, such as a line; `numbers` are those of all. Raises BodyError where
    they are too many.
    """
    if len(found) > MAX_BAD:
        place, _, words = found[0]
        raise BodyError(
            f"{len(found)} {what}s are bad, and a request can have {MAX_BAD} bad ones at most; the "
            f"first is {what} {numbers[place]}: {words}; nothing of the batch was kept"
        )
    return [
        BadLine(
            place, numbers[place], reason, f"{what} {numbers[place]} is {words}"[:_ERROR_LENGTH]
        )
        for place, reason, words in found
    ]


def line_numbers(body: bytes, first_line: int) -> list[int]:
    """Return the number of each line that is not empty; empty lines are counted."""
    lines = body.split(b"\n")
    return [number for number, line in enumerate(lines, first_line) if line not in (b"", b"\r")]


def sifted_envelope(
    topic: str,
    first_id: str,
    received_at: str,
    lines: Sequence[bytes],
    bad: Sequence[BadLine],
    content_type: str | None,
    meta: str | None,
) -> Envelope:
    """Put all lines of a request into one envelope, the bad ones as dead letters."""
    messages = [
        Message(message_id, received_at, line)
        for message_id, line in zip(ids_from(first_id, len(lines)), lines, strict=True)
    ]
    said = Message(first_id, received_at, b"", content_type, meta)
    return pack(topic, buried(messages, bad, said), sum(map(len, lines)), content_type, meta)


def buried(messages: list[Message], bad: Sequence[BadLine], said: Message) -> list[Message]:
    """Return the messages, the bad ones as dead letters.

    `said` has what is said of each message that says nothing itself.
    """
    many = sum(len(messages[each.place].meta or said.meta or "") for each in bad) > _META_BYTES
    short = functools.lru_cache(maxsize=16)(metas.without_headers)
    for each in bad:
        message = messages[each.place]
        is_silent = message.content_type is None and message.meta is None
        meta = said.meta if is_silent else message.meta
        messages[each.place] = message._replace(
            content_type=said.content_type if is_silent else message.content_type,
            meta=_with_reason(short(meta) if many else meta, each),
            dead=(each.reason, each.error),
        )
    return messages


def _with_reason(meta: str | None, bad: BadLine) -> str | None:
    members = {"line": bad.line or None, "quarantine": bad.quarantine}
    try:
        return metas.extended(meta, members)
    except ValueError:  # it is full
        return metas.extended(metas.without_headers(meta), members)


def summary(bad: Sequence[BadLine]) -> dict[str, object]:
    """Return what an answer says of the bad lines: how many, why, and the first of them."""
    return {
        "count": len(bad),
        "reasons": dict(Counter(each.reason for each in bad)),
        "lines": [each.line for each in bad[:_LISTED]],
    }
