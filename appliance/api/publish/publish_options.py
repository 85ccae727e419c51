"""The options of a publishing request, as its head gives them. Pure."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qsl

from appliance.api.bodies.charsets import MARKED
from appliance.api.bodies.plan import BodyPlan, Form, Sifting, read_plan
from appliance.api.http.head import Head
from appliance.api.publish.request_meta import RequestMeta
from appliance.auth.principal import Principal
from appliance.config import Config
from appliance.errors import InputError, TooLargeError
from appliance.model import moments, timestamps
from appliance.model.kept_headers import KEY_HEADERS
from appliance.model.topics import check_topic, map_topic

_KEY_HEADERS: Final = tuple(name.encode() for name in KEY_HEADERS)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
#: Seconds that `Prefer: wait` can ask for; beyond, it is this.
_LONGEST_WAIT: Final = 60
#: Parameters that a publishing request can have.
_PARAMETERS: Final = frozenset(
    {"delay", "deliver-at", "expires-at", "line", "map", "on-bad", "split", "ttl"}
)
#: The longest time for which a message can wait before it becomes a row.
_LONGEST_DELAY: Final = timedelta(days=366)
#: What can become of the bad lines of a batch.
_ON_BAD: Final = ("refuse", "dead-letter")
_SIFTED: Final = frozenset({Form.LINES, Form.NDJSON, Form.ARRAY, Form.JSON_SEQ, Form.EVENTS})
_LINE: Final = re.compile(r"[1-9][0-9]{0,14}")
_NO_MARKS: Final[frozenset[bytes]] = frozenset()


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to read the body, and what the sender wants to know.

    `wait_seconds` is for how long the answer can wait for the row; None: not at all. `around` is
    what is kept of the request beside its messages. `first_counts` is whether another body with the
    same key is the same message all the same: the sender gave the key to an event, not to a body.
    `named` is how the sender wrote the topic, where that is not its name. `has_schema` is whether
    messages of the topic are checked. `due_at` is when the messages become rows; None: at once.
    `waits_for_handler` is whether the answer can be what a handler says. `expires_at` is when they
    are over; None: never.
    """

    topic: str
    plan: BodyPlan
    key: str | None
    wait_seconds: float | None
    around: RequestMeta
    first_counts: bool = False
    named: str | None = None
    has_schema: bool = False
    due_at: str | None = None
    waits_for_handler: bool = False
    expires_at: str | None = None
    #: None where a message takes more than to publish the body as it came; else the first bytes of
    #: a body that is read as its byte order mark says. Decided once for all requests of a head.
    plain_unless: frozenset[bytes] | None = field(init=False)
    #: Whether the head says that the body is UTF-8, so that one that isn't is refused.
    says_utf8: bool = field(init=False)

    def __post_init__(self) -> None:
        says_utf8 = self.plan.is_utf8
        is_plain = (
            (self.plan.is_plain or says_utf8)
            and not self.has_schema
            and not self.is_timed
            and not self.waits_for_handler
        )
        marks = MARKED if self.plan.is_text else _NO_MARKS
        object.__setattr__(self, "plain_unless", marks if is_plain else None)
        object.__setattr__(self, "says_utf8", says_utf8)

    def with_values(self, values: Mapping[bytes, bytes]) -> "PublishOptions":
        """Return the same for other values of headers that the head has once each.

        They decide on nothing: one can be the key, and the others are only kept.
        """
        changed: PublishOptions = object.__new__(PublishOptions)
        for name in _FIELDS:  # `replace` takes four times as long
            object.__setattr__(changed, name, getattr(self, name))
        object.__setattr__(changed, "around", self.around.with_values(values))
        key = values.get(_KEY_HEADERS[0])
        if key is not None and self.key is not None and self.plan.event is None:
            object.__setattr__(changed, "key", key.decode("ascii"))
        return changed

    @property
    def form(self) -> Form:
        """How the body is read."""
        return self.plan.form

    @property
    def is_lines(self) -> bool:
        """Whether the body is only to be cut into lines, and the answer waits for the broker."""
        return (
            self.plan.is_lines
            and self.key is None
            and self.wait_seconds is None
            and not self.has_schema
            and not self.is_timed
        )

    @property
    def is_timed(self) -> bool:
        """Whether the messages become rows later, or are over at some time."""
        return self.due_at is not None or self.expires_at is not None

    @property
    def max_body_bytes(self) -> int:
        """Bytes that the body can have, as it comes and unpacked."""
        return self.plan.most_bytes


_FIELDS: Final = tuple(each.name for each in fields(PublishOptions))


def parameters(query: bytes) -> dict[str, str]:
    """Return the parameters of a publishing address. Raises InputError for any but ours."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError as error:
        raise InputError("the query can't be read") from error
    found = dict(pairs)
    if len(found) < len(pairs) or not found.keys() <= _PARAMETERS:
        raise InputError(f"the parameters here are {', '.join(sorted(_PARAMETERS))}, each once")
    return found


def read(head: Head, path_topic: str, principal: Principal, config: Config) -> PublishOptions:
    """Return what a head asks for; `path_topic` is what stands for the topic in the path.

    Raises InputError for an unknown parameter, a malformed key, a bad topic or hints that
    contradict each other, TooLargeError, EncodingError and FormatError for a body that will not be
    taken.
    """
    values = head.values
    asked = parameters(head.query) if head.query else {}
    topic, named = path_topic, None
    if asked.get("map", "topic") != "topic":
        raise InputError("map can be topic")
    if "map" in asked or config.map_topics:
        topic = map_topic(path_topic)
        named = path_topic if path_topic != topic else None
    check_topic(topic)
    plan = read_plan(head.headers, values, config, split=asked.get("split"))
    if sifting := _sifting(asked, plan.form):
        plan = replace(plan, sifting=sifting)
    check_length(head, plan)
    key = _key(values) if plan.event is None else plan.event.key
    due_at = _due_at(asked)
    wait = None if due_at else _wait(values)
    expires_at = _expires_at(asked, due_at)
    return PublishOptions(
        topic, plan, key, wait, RequestMeta.of(head, principal, always=named is not None),
        first_counts=plan.event is not None, named=named, due_at=due_at,
        waits_for_handler=wait is not None and config.handlers.of(topic) is not None,
        expires_at=expires_at,
    )  # fmt: skip


def read_at_inbox(head: Head, topic: str, config: Config, around: RequestMeta) -> PublishOptions:
    """Return what a head asks for at an inbox address, where the key is found later.

    A query that has other parameters than ours is the sender's own: it knows nothing of us. That of
    a GET is the message itself. Raises what `read` raises.
    """
    asked: dict[str, str] = {}
    if head.query and head.method != b"GET":
        with contextlib.suppress(InputError):
            asked = parameters(head.query)
    if not asked.keys() & {"split", "on-bad"}:
        asked = {}
    plan = read_plan(head.headers, head.values, config, split=asked.get("split"), is_inbox=True)
    if sifting := _sifting(asked, plan.form):
        plan = replace(plan, sifting=sifting)
    check_length(head, plan)
    return PublishOptions(topic, plan, None, _wait(head.values), around)


def check_length(head: Head, plan: BodyPlan) -> None:
    """Raise TooLargeError where the head announces more than the body can have."""
    if head.length is not None and head.length > plan.most_bytes:
        raise TooLargeError(
            f"the body has more than {plan.most_bytes} bytes; nothing of it was kept"
        )


def _sifting(asked: dict[str, str], form: Form) -> Sifting | None:
    """Return what becomes of bad lines, by `on-bad` and `line`."""
    word, line = asked.get("on-bad", "refuse"), asked.get("line")
    if word not in _ON_BAD:
        raise InputError(f"on-bad: expected {' or '.join(_ON_BAD)}")
    if line is not None and not (_LINE.fullmatch(line) and word == "dead-letter"):
        raise InputError(
            "line: expected the number of the body's first line in its file, beside "
            "on-bad=dead-letter"
        )
    if word == "refuse":
        return None
    if form not in _SIFTED:
        raise InputError("on-bad: the body is no batch; add split=lines, ndjson or array")
    return Sifting(int(line or 1))


def _due_at(asked: dict[str, str]) -> str | None:
    """Return when the messages become rows; None where that is now or earlier."""
    delay, at = asked.get("delay"), asked.get("deliver-at")
    if delay is not None and at is not None:
        raise InputError("delay and deliver-at: expected one of them")
    if at is not None:
        due_at = moments.at_time("deliver-at", at)
    elif delay is not None:
        due_at = moments.ahead("delay", delay)
    else:
        return None
    now = timestamps.now()
    if timestamps.seconds_between(now, due_at) > _LONGEST_DELAY.total_seconds():
        raise InputError(f"a message can wait for {_LONGEST_DELAY.days} days at most")
    return due_at if due_at > now else None


def _expires_at(asked: dict[str, str], due_at: str | None) -> str | None:
    """Return when the messages are over; a span counts from when they become rows."""
    span, at = asked.get("ttl"), asked.get("expires-at")
    if span is not None and at is not None:
        raise InputError("ttl and expires-at: expected one of them")
    begin = due_at or timestamps.now()
    if at is not None:
        expires_at = moments.at_time("expires-at", at)
    elif span is not None:
        expires_at = moments.ahead("ttl", span, begin)
    else:
        return None
    if expires_at <= begin:
        raise InputError(
            f"{'ttl' if at is None else 'expires-at'}: the message would be over before it is due; "
            "expected a later time"
        )
    return expires_at


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
