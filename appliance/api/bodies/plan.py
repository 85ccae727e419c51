"""The plan of a body, as its head gives it: how to undo it, and make messages of it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from typing import Final, NamedTuple

from appliance.api.bodies import cloud_events
from appliance.api.bodies.charsets import find_charset
from appliance.api.bodies.cloud_events import CloudEvent
from appliance.api.bodies.codings import parse_codings
from appliance.api.bodies.media_types import MediaType, parse_media_type
from appliance.config import Config
from appliance.errors import FormatError, InputError


class Form(Enum):
    """How to read a body."""

    WHOLE = auto()  # it is one message
    LINES = auto()  # each line of a text is a message
    NDJSON = auto()  # the same, and each line is JSON
    ARRAY = auto()  # each element of a JSON array is a message
    JSON_SEQ = auto()  # each text of a JSON text sequence is a message
    MULTIPART = auto()  # the fields of a form are a message, and so is each of its files
    URLENCODED = auto()  # the fields of a form are a message
    DATA = auto()  # it is the data of one event, whose attributes are headers
    EVENT = auto()  # it is one event
    EVENTS = auto()  # each element of a JSON array is an event


#: Forms of which a request is one message; it is answered with one id.
SINGLE: Final = frozenset({Form.WHOLE, Form.URLENCODED, Form.DATA, Form.EVENT})
#: Values of `split`.
SPLITS: Final = {"lines": Form.LINES, "ndjson": Form.NDJSON, "array": Form.ARRAY}
#: Forms that a media type stands for by its name alone.
_FORM_OF_NAME: Final = {
    cloud_events.EVENT: Form.EVENT,
    cloud_events.BATCH: Form.EVENTS,
    "multipart/form-data": Form.MULTIPART,
    "application/x-www-form-urlencoded": Form.URLENCODED,
}
#: What `split` can ask for, by what the media type stands for.
_SPLIT_OF: Final = {
    Form.WHOLE: (Form.LINES, Form.NDJSON, Form.ARRAY),
    Form.URLENCODED: (Form.LINES, Form.NDJSON, Form.ARRAY),
    Form.NDJSON: (Form.LINES, Form.NDJSON),
}
#: Media types whose plans are remembered, and bytes of one.
_KNOWN_TYPES: Final = 256
_KNOWN_LENGTH: Final = 256


class Sifting(NamedTuple):
    """How the bad lines of a batch are told: `first_line` is the number of the body's first."""

    first_line: int = 1


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """How the body of a request becomes messages.

    `most_bytes` is for the body as it comes and for what it is unpacked. `charset` is Python's name
    of the one that the head names; `is_text` that a byte order mark names one too. `sifting` is
    there where a batch's bad lines become dead letters; without it they refuse the batch.
    """

    form: Form
    most_bytes: int
    codings: tuple[str, ...] = ()
    is_text: bool = False
    charset: str | None = None
    media_type: MediaType = MediaType("", {})
    event: CloudEvent | None = None
    sifting: Sifting | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the bytes are the message as they come, unless a byte order mark begins them."""
        return self.form is Form.WHOLE and not self.codings and self.charset is None

    @property
    def is_utf8(self) -> bool:
        """Whether the same is so of bytes that must be UTF-8."""
        return self.form is Form.WHOLE and not self.codings and self.charset == "utf_8"

    @property
    def is_lines(self) -> bool:
        """Whether it is only to be cut into lines."""
        return self.form in (Form.LINES, Form.NDJSON) and not self.codings

    @property
    def is_single(self) -> bool:
        """Whether the request is one message."""
        return self.form in SINGLE


def read_plan(
    headers: Iterable[tuple[bytes, bytes]],
    values: Mapping[bytes, bytes],
    config: Config,
    *,
    split: str | None = None,
    is_inbox: bool = False,
) -> BodyPlan:
    """Return what a head's headers say of its body; `values` are the same headers by name.

    `split` is that parameter of the address. At an inbox address urlencoded forms are read as such;
    elsewhere curl's `-d`, which calls everything a form, sends bytes.

    Raises InputError where two hints contradict each other, EncodingError for a coding that is not
    taken, FormatError for a kind of event that can't be read.
    """
    content_type = values.get(b"content-type", b"")
    if (
        b"ce-id" in values
        or b"ce-source" in values
        or b"ce-specversion" in values
        or b"ce-type" in values
    ) and not content_type.lower().startswith(cloud_events.ANY.encode()):
        if split is not None:
            raise InputError(
                f"split={split} contradicts the headers ce-...: an event is one message"
            )
        event = cloud_events.of_headers(headers, content_type)
        plan = replace(
            _plan_of_type(content_type, None, is_inbox, config.max_message_bytes, 0),
            form=Form.DATA, most_bytes=config.max_message_bytes, event=event,
        )  # fmt: skip
    else:
        read = _plan_of_type if len(content_type) <= _KNOWN_LENGTH else _plan_of_type.__wrapped__
        plan = read(
            content_type, split, is_inbox, config.max_message_bytes, config.max_request_bytes
        )
    if b"content-encoding" in values:
        codings = parse_codings(_joined(headers, b"content-encoding"))
        plan = replace(plan, codings=codings) if codings else plan
    return plan


@lru_cache(_KNOWN_TYPES)
def _plan_of_type(
    content_type: bytes, split: str | None, is_inbox: bool, most_message: int, most_request: int
) -> BodyPlan:
    """Return the plan for a media type. Most requests have one that others had before."""
    media = parse_media_type(content_type)
    form = _form(media, split, is_inbox=is_inbox)
    most = most_message if form in SINGLE else most_request
    is_text = media.is_text or form not in (Form.WHOLE, Form.MULTIPART)
    charset = None
    if is_text and (name := media.parameters.get("charset")):
        charset = find_charset(name)
        if charset is None:
            if form is Form.LINES:
                raise InputError(f"the charset {name[:40]!r} is not known here; send UTF-8")
            # It stays as it is, with its Content-Type beside it. JSON is UTF-8, whatever it is
            # called, and anything else is found when it is read.
            is_text = form is not Form.WHOLE
    return BodyPlan(form, most, (), is_text, charset, media)


def _form(media: MediaType, split: str | None, *, is_inbox: bool) -> Form:
    found = _form_of_type(media, is_inbox=is_inbox)
    if split is None:
        return found
    wanted = SPLITS.get(split)
    if wanted is None:
        raise InputError(f"split can be {', '.join(SPLITS)}")
    if wanted not in _SPLIT_OF.get(found, ()):
        raise InputError(
            f"split={split} contradicts the Content-Type {media.name[:60]}; leave one of them out"
        )
    return wanted


def _form_of_type(media: MediaType, *, is_inbox: bool) -> Form:
    name = media.name
    found = _FORM_OF_NAME.get(name, Form.WHOLE)
    if found is Form.URLENCODED and not is_inbox:
        return Form.WHOLE
    if found is not Form.WHOLE:
        return found
    if name.startswith(cloud_events.ANY):
        raise FormatError(f"events are taken as {cloud_events.EVENT}, not as {name[:60]}")
    if media.is_ndjson:
        return Form.NDJSON
    return Form.JSON_SEQ if media.is_json_seq else Form.WHOLE


def _joined(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return b",".join(value for name, value in headers if name == wanted)
