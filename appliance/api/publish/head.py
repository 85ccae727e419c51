"""The front door: who may come in, and what a publishing request's head asks for.

Pure: it decides on heads and writes answers, and neither reads nor sends a byte.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from appliance.api.http import problems
from appliance.api.http.problems import Problem
from appliance.api.publish.intake import Accepted, Form, Order
from appliance.auth.bearer import Bearer
from appliance.config import Config
from appliance.errors import ApplianceError, EncodingError, InputError, TooLargeError
from appliance.model.messages import check_topic

Headers = list[tuple[bytes, bytes]]  # names in lower case

#: Paths that anyone may read: they tell whether to send, not what is stored.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_METHODS: Final = ["GET", "HEAD", "POST", "PUT"]
#: Headers whose value is an idempotency key, the first that is there counts.
_KEY_HEADERS: Final = (b"idempotency-key", b"webhook-id", b"x-github-delivery")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
#: Seconds that `Prefer: wait` may ask for; beyond, it is this.
_LONGEST_WAIT: Final = 60
#: Heads that are known by heart: a few hundred clients, or topics, or lengths of bodies.
_KNOWN_HEADS: Final = 1024
#: Bytes of a head that is worth it.
_KNOWN_HEAD_BYTES: Final = 2048
_UNKNOWN: Final = (None, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a head asks for, or why it gets nothing; and its body's length, None where unsaid."""

    what: Order | Problem
    length: int | None


class FrontDoor:
    """Decides on heads. One for all connections."""

    def __init__(self, config: Config, bearer: Bearer) -> None:
        self._bearer = bearer
        self._most_bytes = {
            form: config.max_message_bytes if form is Form.WHOLE else config.max_request_bytes
            for form in Form
        }
        self._known: dict[bytes, tuple[Order, int]] = {}

    def decide(self, method: bytes, path: str, query: bytes, headers: Headers) -> Asked | None:
        """Return what a head asks for; None where that is for the application behind to say."""
        values = dict(headers)
        length = _length(values)
        if not self._bearer.allows(values.get(b"authorization")) and path not in _OPEN:
            return Asked(problems.unauthorized(), length)
        if not (path.startswith("/v1/topics/") and path.endswith("/messages")):
            return None
        if method in (b"GET", b"HEAD"):
            return None
        if method not in (b"POST", b"PUT"):
            return Asked(problems.method_not_allowed(_METHODS), length)
        try:
            return Asked(self._order(path[11:-9], query, values, length), length)
        except ApplianceError as error:
            return Asked(problems.of(error), length)

    def _order(
        self, topic: str, query: bytes, values: dict[bytes, bytes], length: int | None
    ) -> Order:
        check_topic(topic)
        form = _form(query, values)
        order = Order(topic, form, _key(values), _wait(values), self._most_bytes[form])
        if values.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise EncodingError("compressed bodies are not taken; send it as it is")
        if length is not None and length > order.most_bytes:
            raise too_large(order)
        return order

    def recall(self, data: bytes) -> tuple[Order, bytes] | None:
        """Return order and body where `data` is one whole request with a head known by heart.

        Clients that keep a connection send the same head with every message, byte for byte; the
        same bytes mean the same, so they need not be parsed and decided on again.
        """
        end = data.find(b"\r\n\r\n") + 4
        order, length = self._known.get(data[:end], _UNKNOWN)
        if order is None or len(data) - end != length:
            return None
        return order, data[end:]

    def learn(self, data: bytes, asked: Asked) -> None:
        """Learn the head of `data`, which was parsed as one whole request that asked for this.

        Not one with a key: it comes once.
        """
        if isinstance(asked.what, Problem) or asked.length is None or asked.what.key is not None:
            return
        head = data[: len(data) - asked.length]
        if len(head) <= _KNOWN_HEAD_BYTES and head.find(b"\r\n\r\n") + 4 == len(head):
            if len(self._known) >= _KNOWN_HEADS:
                del self._known[next(iter(self._known))]
            self._known[head] = asked.what, asked.length


def _length(values: dict[bytes, bytes]) -> int | None:
    """Return the length of the body that a head says, 0 for no body, None where it is chunked."""
    if b"transfer-encoding" in values:
        return None
    length = values.get(b"content-length", b"0")
    # A number of more digits than any limit of ours is as good as this one.
    return int(length) if len(length) < 18 else 10**18


def too_large(order: Order) -> TooLargeError:
    """Return the error for a body over the limit."""
    return TooLargeError(f"the body has more than {order.most_bytes} bytes; nothing of it was kept")


def _form(query: bytes, values: dict[bytes, bytes]) -> Form:
    if query:
        try:
            parameters = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
        except ValueError as error:
            raise InputError("the query can't be read") from error
        if parameters != [("split", "lines")]:
            raise InputError("the only parameter here is split=lines")
        return Form.LINES
    media_type = values.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return Form.NDJSON if media_type == b"application/x-ndjson" else Form.WHOLE


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


def answer(accepted: Accepted, wait: float | None) -> tuple[int, bytes, bytes]:
    """Return status, headers (each ended by CRLF) and body of the answer to what was taken in."""
    headers = b"content-type: application/json\r\n"
    if accepted.form is Form.WHOLE:
        headers += b"location: /v1/messages/%b\r\n" % accepted.first_id.encode()
    if wait is not None:
        headers += b"preference-applied: wait=%d\r\n" % wait
    return 201 if accepted.stored and wait is not None else 202, headers, accepted.encode()


def refusal(problem: Problem) -> tuple[int, bytes, bytes]:
    """Return the same of a problem."""
    headers = {"Content-Type": problems.CONTENT_TYPE, **problem.headers}
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    return problem.status, lines.encode(), problem.encode()
