"""The options of a publishing request, as its head gives them. Pure."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from appliance.api.http.head import Head
from appliance.api.publish.request_meta import RequestMeta
from appliance.auth.principal import Principal
from appliance.config import Config
from appliance.errors import EncodingError, InputError, TooLargeError
from appliance.model.topics import check_topic

#: Headers whose value is an idempotency key; the first that is there counts.
_KEY_HEADERS: Final = (b"idempotency-key", b"webhook-id", b"x-github-delivery")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
#: Parameters that a publishing request can have.
_PARAMETERS: Final = frozenset({"line", "on-bad", "split"})
#: What can become of the bad lines of a batch.
_ON_BAD: Final = ("refuse", "dead-letter")
_LINE: Final = re.compile(r"[1-9][0-9]{0,14}")
#: Seconds that `Prefer: wait` can ask for; beyond, it is this.
_LONGEST_WAIT: Final = 60


class Form(Enum):
    """How to read a body."""

    WHOLE = auto()  # it is one message
    LINES = auto()  # each line of a text is a message
    NDJSON = auto()  # the same, and each line is JSON


class Sifting(NamedTuple):
    """How the bad lines of a batch are told: `first_line` is the number of the body's first."""

    first_line: int = 1


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to read the body, and what the sender wants to know.

    `wait_seconds` is for how long the answer can wait for the row; None: not at all. `around` is
    what is kept of the request beside its messages. `sifting` is there where a batch's bad lines
    become dead letters; without it they refuse the batch.
    """

    topic: str
    form: Form
    key: str | None
    wait_seconds: float | None
    max_body_bytes: int
    around: RequestMeta
    sifting: Sifting | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the answer waits for nothing but the broker, and depends on no earlier one."""
        return self.key is None and self.wait_seconds is None


def read(head: Head, topic: str, principal: Principal, config: Config) -> PublishOptions:
    """Return what a head asks for.

    Raises InputError for an unknown parameter, a malformed key or a bad topic, TooLargeError and
    EncodingError for a body that will not be taken.
    """
    values = head.values
    check_topic(topic)
    parameters = _parameters(head.query) if head.query else {}
    form = _form(parameters, values)
    most = config.max_message_bytes if form is Form.WHOLE else config.max_request_bytes
    options = PublishOptions(
        topic, form, _key(values), _wait(values), most, RequestMeta(head, principal),
        _sifting(parameters, form),
    )  # fmt: skip
    if values.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise EncodingError("compressed bodies are not taken; send the body uncompressed")
    if head.length is not None and head.length > most:
        raise TooLargeError(f"the body has more than {most} bytes; nothing of it was kept")
    return options


def _parameters(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise InputError("the query can't be read") from error
    parameters = dict(pairs)
    if len(parameters) < len(pairs) or not parameters.keys() <= _PARAMETERS:
        raise InputError(f"the parameters here are {', '.join(sorted(_PARAMETERS))}, each once")
    return parameters


def _form(parameters: dict[str, str], values: dict[bytes, bytes]) -> Form:
    if "split" in parameters:
        if parameters["split"] != "lines":
            raise InputError("split: expected lines")
        return Form.LINES
    media_type = values.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return Form.NDJSON if media_type == b"application/x-ndjson" else Form.WHOLE


def _sifting(parameters: dict[str, str], form: Form) -> Sifting | None:
    """Return what becomes of bad lines, by `on-bad` and `line`."""
    word, line = parameters.get("on-bad", "refuse"), parameters.get("line")
    if word not in _ON_BAD:
        raise InputError(f"on-bad: expected {' or '.join(_ON_BAD)}")
    if line is not None and not (_LINE.fullmatch(line) and word == "dead-letter"):
        raise InputError(
            "line: expected the number of the body's first line in its file, beside "
            "on-bad=dead-letter"
        )
    if word == "refuse":
        return None
    if form is Form.WHOLE:
        raise InputError(
            "on-bad: the body is one message; add split=lines, or send it as application/x-ndjson"
        )
    return Sifting(int(line or 1))


def _key(values: dict[bytes, bytes]) -> str | None:
    for name in _KEY_HEADERS:
        if name in values:
            key = values[name].decode("latin-1").strip()
            if len(key) > 1 and key[0] == key[-1] == '"':
                key = key[1:-1]
            if not _KEY.fullmatch(key):
                raise InputError(
                    f"{name.decode()}: expected 1 to 255 printable ASCII characters, no spaces"
                )
            return key
    return None


def _wait(values: dict[bytes, bytes]) -> float | None:
    match = _WAIT.search(values.get(b"prefer", b""))
    return float(min(int(match[1]), _LONGEST_WAIT)) if match else None
