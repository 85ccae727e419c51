"""A request's body becomes the bodies of its messages, as the head's plan says. Pure.

This is the one way in for every address that takes bodies. It needs nothing of the connection, so
it can run in any thread: what it costs is the size of the body, unpacked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from appliance.api.bodies import bad_lines, cloud_events, codings, json_texts, lines
from appliance.api.bodies.bad_lines import BadLine
from appliance.api.bodies.charsets import MARKED, charset_of_mark, to_utf8
from appliance.api.bodies.cloud_events import CloudEvent
from appliance.api.bodies.form_data import (
    FormContents,
    looks_urlencoded,
    read_multipart,
    read_urlencoded,
)
from appliance.api.bodies.json_texts import JsonTextError
from appliance.api.bodies.plan import BodyPlan, Form
from appliance.config import Config
from appliance.errors import BodyError, TooLargeError

#: Characters of a charset's name that are kept.
_NAME_LENGTH: Final = 40
#: The media type of a form's fields.
_JSON: Final = "application/json"


class Part(NamedTuple):
    """What a message has of its own, beside what came with its request.

    `content_type` None is the request's, and "" is none. `members` are for its meta. `key` is its
    own idempotency key, where it has one.
    """

    content_type: str | None = None
    members: Mapping[str, Any] | None = None
    key: str | None = None


#: Nothing beside what came with the request.
NOTHING: Final = Part()


class Decoded(NamedTuple):
    """The bodies of the messages, in order.

    `common` says more of all of them; `parts` of each, and then it stands for `common`. `bad` are
    those that become dead letters; None where a bad one refuses them all. `source` is the text of
    which they are lines, where they are, and `first_line` the number of its first one.
    """

    bodies: list[bytes]
    common: Part = NOTHING
    parts: list[Part] | None = None
    bad: list[BadLine] | None = None
    source: bytes = b""
    first_line: int = 1

    def numbers(self) -> Sequence[int]:
        """Return the number of each message: of its line, where it is one."""
        if not self.source:
            return range(1, len(self.bodies) + 1)
        return bad_lines.line_numbers(self.source, self.first_line)


def decode(plan: BodyPlan, raw: bytes, config: Config, *, at_once: int | None = None) -> Decoded:
    """Return the messages of a body that came as `raw`: all of them, or none.

    `at_once` is a smaller limit for its unpacked bytes, for who wants to know whether it is small.

    Raises BodyError where it is not what it says it is, TooLargeError where a message or all
    together are too large.
    """
    body = raw
    if plan.codings:
        most = plan.most_bytes if at_once is None else min(plan.most_bytes, at_once)
        body = codings.undo(raw, plan.codings, most)
    common = NOTHING
    is_cut = plan.form in (Form.LINES, Form.NDJSON)
    if plan.is_text and (
        plan.charset is not None or body[:1] in MARKED or (is_cut and b"\0" in body)
    ):
        common, body = _as_utf8(plan, body, is_cut=is_cut)
    if not body and plan.event is None:
        raise BodyError("the body is empty; a message has at least one byte")
    take = _TAKERS.get(plan.form)
    decoded = Decoded([body]) if take is None else take(plan, body, config)
    return decoded if common is NOTHING else _said_of_all(decoded, common)


def _said_of_all(decoded: Decoded, more: Part) -> Decoded:
    """Add what is true of every message, where a message says nothing else itself."""

    def added(part: Part) -> Part:
        members = {**(more.members or {}), **(part.members or {})}
        kind = more.content_type if part.content_type is None else part.content_type
        return part._replace(content_type=kind, members=members or None)

    if decoded.parts is None:
        return decoded._replace(common=added(decoded.common))
    return decoded._replace(parts=[added(part) for part in decoded.parts])


def _as_utf8(plan: BodyPlan, body: bytes, *, is_cut: bool) -> tuple[Part, bytes]:
    """Return a text as UTF-8, and what is said of it, where it was another one."""
    if plan.form is Form.URLENCODED:  # its charset is that of the bytes behind percent signs
        return NOTHING, body
    text = to_utf8(body, plan.charset, is_cut=is_cut)
    if text is body:
        return NOTHING, body
    if len(text) > plan.most_bytes:
        raise TooLargeError(f"the body has more than {plan.most_bytes} bytes as UTF-8")
    media = plan.media_type
    was = media.parameters.get("charset", "").strip()[:_NAME_LENGTH] or charset_of_mark(body)
    return Part(media.with_charset("utf-8") if media.name else None, {"charset": was}), text


def _data(plan: BodyPlan, body: bytes, _: Config) -> Decoded:
    """Take an event of the binary mode; without data it takes the structured one's body."""
    event = plan.event
    assert event is not None  # noqa: S101  # that is what the form means
    if not body:
        return Decoded([event.structured()], parts=[_of_event(event, cloud_events.EVENT)])
    return Decoded([body], parts=[_of_event(event)])


def _of_event(event: CloudEvent, content_type: str | None = None) -> Part:
    return Part(content_type, {"cloudevent": event.kept()}, event.key)


def _lines(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    found = lines.split(body, config.max_batch_messages)
    if plan.sifting is not None:
        first_line = plan.sifting.first_line
        bad = bad_lines.find(plan.form, body, found, config, first_line)
        return Decoded(found, bad=bad, source=body, first_line=first_line)
    lines.check(plan.form, body, found, config)
    return Decoded(found, source=body)


def _array(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    texts = json_texts.elements(body, config.max_batch_messages)
    return Decoded(texts, Part(_JSON), bad=_sifted(plan, "element", texts, config, _json_fault))


def _sequence(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    texts = json_texts.sequence(body, config.max_batch_messages)
    return Decoded(texts, Part(_JSON), bad=_sifted(plan, "text", texts, config, _json_fault))


def _event(_: BodyPlan, body: bytes, __: Config) -> Decoded:
    return Decoded([body], parts=[_of_event(cloud_events.of_json(body))])


def _events(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    texts = json_texts.elements(body, config.max_batch_messages)
    parts = [Part(cloud_events.EVENT)] * len(texts)

    def fault(place: int, text: bytes) -> tuple[str, str] | None:
        try:
            parts[place] = _of_event(cloud_events.of_json(text, "it"), cloud_events.EVENT)
        except BodyError as error:
            return bad_lines.BAD_EVENT, f"no CloudEvent ({error})"
        return None

    bad = _sifted(plan, "event", texts, config, fault)
    return Decoded(texts, parts=parts, bad=bad)


def _json_fault(_: int, text: bytes) -> tuple[str, str] | None:
    try:
        json_texts.check_json(text)
    except JsonTextError as error:
        return bad_lines.NOT_JSON, f"not JSON ({error})"
    return None


def _sifted(
    plan: BodyPlan,
    what: str,
    texts: list[bytes],
    config: Config,
    fault_of: Callable[[int, bytes], tuple[str, str] | None],
) -> list[BadLine] | None:
    """Return the texts that become dead letters; None where a bad one refuses them all.

    `fault_of` returns the reason and the words for a text that is bad. Raises BodyError or
    TooLargeError for the first such one, unless they are to become dead letters.
    """
    longest = config.max_message_bytes
    found: list[tuple[int, str, str]] = []
    for place, text in enumerate(texts):
        fault = fault_of(place, text) if len(text) <= longest else None
        if len(text) > longest:
            fault = bad_lines.TOO_LARGE, f"longer than {longest} bytes"
        if fault is None:
            continue
        reason, words = fault
        if plan.sifting is None:
            kind = TooLargeError if reason == bad_lines.TOO_LARGE else BodyError
            raise kind(f"{what} {place + 1} is {words}; nothing of the batch was kept")
        found.append((place, reason, words))
    if plan.sifting is None:
        return None
    first = plan.sifting.first_line
    return bad_lines.told(what, found, range(first, first + len(texts)))


def _urlencoded(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    if not looks_urlencoded(body):
        return Decoded([body])
    return _form(read_urlencoded(body, plan.charset), config)


def _multipart(plan: BodyPlan, body: bytes, config: Config) -> Decoded:
    return _form(read_multipart(body, plan.media_type.parameters.get("boundary", "")), config)


def _form(form: FormContents, config: Config) -> Decoded:
    bodies, parts = [], []
    if form.fields:
        bodies.append(form.encode_fields())
        parts.append(Part(_JSON))
    for file in form.files:
        bodies.append(file.body)
        members = {"file": {"field": file.field, "name": file.name}}
        parts.append(Part(file.content_type, members))
    if not bodies:
        raise BodyError("the form is empty: it has no field and no file")
    for body, part in zip(bodies, parts, strict=True):
        if len(body) > config.max_message_bytes:
            what = "the file " + repr(part.members["file"]["name"]) if part.members else "the form"
            raise TooLargeError(f"{what} is longer than {config.max_message_bytes} bytes")
    return Decoded(bodies, parts=parts)


_TAKERS: Final[dict[Form, Callable[[BodyPlan, bytes, Config], Decoded]]] = {
    Form.DATA: _data,
    Form.LINES: _lines,
    Form.NDJSON: _lines,
    Form.ARRAY: _array,
    Form.JSON_SEQ: _sequence,
    Form.MULTIPART: _multipart,
    Form.URLENCODED: _urlencoded,
    Form.EVENT: _event,
    Form.EVENTS: _events,
}
