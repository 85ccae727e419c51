"""Problem details (RFC 9457): the body of every error.

The connection and Flask both answer with these. `type` is a stable URN for programs to
compare, `title` says the same in words, and `detail` says what was wrong this time. A problem never
holds anything of the inside: a traceback, a path, an SQL text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import orjson

from appliance.errors import (
    AmbiguousError,
    ApplianceError,
    BackupBusyError,
    BackupElsewhereError,
    BackupRoomError,
    BodyError,
    BrokerError,
    BusyError,
    DeadlineError,
    EncodingError,
    ExistsError,
    FormatError,
    InputError,
    KeyReusedError,
    LimitError,
    MisfitError,
    MissingExtraError,
    QuarantineFullError,
    RedriveError,
    RefusedError,
    RestartError,
    SchemaError,
    SearchBusyError,
    SlowReadError,
    StoreError,
    StoreFullError,
    TooLargeError,
    TopicError,
)

#: The media type of every error's body.
CONTENT_TYPE: Final = "application/problem+json"

_URN: Final = "urn:queue-appliance:problem:"

#: Seconds after which a client can try again if the broker refused or is away: our publisher
#: reconnects within about that time.
RETRY_BROKER_SECONDS: Final = 2
#: The same for the database: a lock or a restart of the process is over by then.
RETRY_STORE_SECONDS: Final = 2
#: The same for a backup while another one is made: a gigabyte takes a few seconds.
RETRY_BACKUP_SECONDS: Final = 10
#: The same for a search beside others that take long: each of them ends within that time.
RETRY_SEARCH_SECONDS: Final = 3
#: The same for the checks of the machine, which take some seconds.
RETRY_BUSY_SECONDS: Final = 5
#: The same for a message to be quarantined: the budget is one of minutes.
RETRY_QUARANTINE_SECONDS: Final = 60
#: The same for a message that isn't stored yet: storing takes milliseconds when all is well.
RETRY_MESSAGE_SECONDS: Final = 1
#: The same for a stream where there are as many as there can be: until somebody closes a page.
RETRY_STREAM_SECONDS: Final = 10


#: Problems that this process has answered, by type; metrics show them.
ANSWERED: Final[Counter[str]] = Counter()


@dataclass(frozen=True)
class Problem:
    """An error as an HTTP answer: a status, headers, and the members of the JSON body."""

    status: int
    type: str
    title: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the body: JSON and a line break, so that a shell's prompt is on its own line.

        It is counted as answered.
        """
        known = self.type.startswith(_URN)
        ANSWERED[self.type.removeprefix(_URN) if known else f"status-{self.status}"] += 1
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        try:
            return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:  # lone surrogates of a hostile request, quoted in detail
            members["detail"] = self.detail.encode(errors="backslashreplace").decode()
            return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


class ProblemType(NamedTuple):
    """A kind of problem: programs compare `name`, the last part of the URN; `title` is for people.

    `retry_seconds` is the value of Retry-After; None: trying again changes nothing.
    """

    status: int
    name: str
    title: str
    retry_seconds: int | None = None

    def problem(self, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
        """Return a problem of this type; `detail` says what was wrong this time."""
        retry = {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}
        return Problem(
            self.status, _URN + self.name, self.title, detail, {**retry, **(headers or {})}
        )


_BAD_REQUEST: Final = ProblemType(400, "bad-request", "Bad request")
_UNAUTHORIZED: Final = ProblemType(401, "unauthorized", "Missing or invalid token")
_BAD_SIGNATURE: Final = ProblemType(401, "bad-signature", "Missing or wrong signature")
_FORBIDDEN: Final = ProblemType(403, "forbidden", "Not allowed")
_NOT_FOUND: Final = ProblemType(404, "not-found", "Not found")
_RATE_LIMITED: Final = ProblemType(429, "rate-limited", "Too many requests")
_METHOD_NOT_ALLOWED: Final = ProblemType(405, "method-not-allowed", "Method not allowed")
_TOO_MANY_STREAMS: Final = ProblemType(
    503, "too-many-streams", "Too many streams", RETRY_STREAM_SECONDS
)
_INTERNAL: Final = ProblemType(500, "internal", "Internal error")

#: How a client can say who it is; a browser asks its user where it sees the first one.
_BASIC: Final = 'Basic realm="appliance", '
_BEARER: Final = 'Bearer realm="appliance"'

#: The type of each error. The first class that fits counts, so subclasses stand before parents.
_BY_ERROR: Final[Mapping[type[ApplianceError], ProblemType]] = {
    TopicError: ProblemType(400, "bad-topic", "Invalid topic name"),
    BodyError: ProblemType(400, "bad-body", "Invalid body"),
    TooLargeError: ProblemType(413, "too-large", "Content too large"),
    EncodingError: ProblemType(415, "encoding", "Content encoding not supported"),
    FormatError: ProblemType(415, "format", "Format not supported"),
    MisfitError: ProblemType(422, "schema", "Message does not fit its topic's JSON Schema"),
    QuarantineFullError: ProblemType(
        429, "quarantine-full", "Too much is quarantined already", RETRY_QUARANTINE_SECONDS
    ),
    KeyReusedError: ProblemType(422, "key-reused", "Idempotency key reused with another body"),
    RedriveError: ProblemType(422, "not-redrivable", "Dead letter cannot be redriven"),
    AmbiguousError: ProblemType(409, "ambiguous", "Ambiguous dead letter"),
    ExistsError: ProblemType(409, "exists", "Name already in use"),
    LimitError: ProblemType(409, "too-many", "As many as there can be"),
    RestartError: ProblemType(409, "not-restartable", "Process cannot be restarted"),
    InputError: _BAD_REQUEST,
    BusyError: ProblemType(503, "busy", "Being done for others", RETRY_BUSY_SECONDS),
    MissingExtraError: ProblemType(501, "missing-extra", "Not installed here"),
    RefusedError: ProblemType(503, "refused", "Not accepted, and not kept", RETRY_BROKER_SECONDS),
    DeadlineError: ProblemType(503, "not-confirmed", "Not confirmed in time", RETRY_BROKER_SECONDS),
    BrokerError: ProblemType(503, "broker-unavailable", "Broker unavailable", RETRY_BROKER_SECONDS),
    SearchBusyError: ProblemType(
        503, "search-busy", "Too many searches at once", RETRY_SEARCH_SECONDS
    ),
    SlowReadError: ProblemType(503, "slow-search", "Search took too long", RETRY_STORE_SECONDS),
    StoreFullError: ProblemType(503, "disk-full", "Disk full", RETRY_STORE_SECONDS),
    SchemaError: ProblemType(
        503, "wrong-schema", "Database schema does not match", RETRY_STORE_SECONDS
    ),
    BackupBusyError: ProblemType(
        503, "backup-busy", "Another backup is in progress", RETRY_BACKUP_SECONDS
    ),
    BackupRoomError: ProblemType(507, "no-room", "Not enough disk space for a backup"),
    BackupElsewhereError: ProblemType(501, "backups-elsewhere", "Backups are made elsewhere"),
    StoreError: ProblemType(503, "store-unavailable", "Database unavailable", RETRY_STORE_SECONDS),
}

#: Headers that the problems of an error have.
_HEADERS: Final[Mapping[type[ApplianceError], Mapping[str, str]]] = {
    EncodingError: {"Accept-Encoding": "gzip, deflate"},  # RFC 9110, 12.5.3
}

#: Every type of problem, by status and name. A status that the HTTP library chose has none: its
#: `type` is about:blank.
TYPES: Final[Sequence[ProblemType]] = sorted(
    {
        *_BY_ERROR.values(),
        _UNAUTHORIZED,
        _BAD_SIGNATURE,
        _FORBIDDEN,
        _NOT_FOUND,
        _RATE_LIMITED,
        _METHOD_NOT_ALLOWED,
        _TOO_MANY_STREAMS,
        _INTERNAL,
    }
)


def answered() -> dict[str, int]:
    """Return how many problems of each type this process has answered; of most types none."""
    return {**{each.name: 0 for each in TYPES}, **dict(ANSWERED)}


def of(error: ApplianceError) -> Problem:
    """Return the problem of an error; a 500 if no client can do anything about it."""
    for kind, problem_type in _BY_ERROR.items():
        if isinstance(error, kind):
            return problem_type.problem(error.public, _HEADERS.get(kind))
    return internal()


def unauthorized(*, asks: bool = True) -> Problem:
    """Return the 401, the same whether a token is missing, malformed or wrong.

    Without `asks` a browser does not ask its user for a password: a page of ours sees the answer.
    """
    return _UNAUTHORIZED.problem(
        "send the header Authorization: Bearer TOKEN; `appliance token` prints the token",
        {"WWW-Authenticate": f"{_BASIC if asks else ''}{_BEARER}"},
    )


def not_yet() -> Problem:
    """Return the 503 of a start: whether a token is right can't be said before all are read."""
    return _BY_ERROR[StoreError].problem("the tokens are not read yet; try again in a moment")


def bad_signature(reason: str, detail: str) -> Problem:
    """Return the 401 of an inbox address; `reason` is a word for programs."""
    problem = _BAD_SIGNATURE.problem(
        f"{detail}; nothing was kept", {"WWW-Authenticate": 'Signature realm="inbox"'}
    )
    return replace(problem, extra={"reason": reason})


def forbidden(detail: str) -> Problem:
    """Return a 403: the principal is known, and lacks the right."""
    return _FORBIDDEN.problem(detail)


def rate_limited(seconds: int) -> Problem:
    """Return the 429 of a token or an inbox that has used up its rate."""
    return _RATE_LIMITED.problem(
        f"it has used up its rate; nothing was kept, try again in {seconds} s",
        {"Retry-After": str(seconds)},
    )


def not_found(detail: str, retry_after: int | None = None) -> Problem:
    """Return a 404; `retry_after` is in seconds, for a thing that may still come."""
    return _NOT_FOUND._replace(retry_seconds=retry_after).problem(detail)


def method_not_allowed(allow: list[str]) -> Problem:
    """Return a 405 that names the allowed methods."""
    methods = ", ".join(sorted(allow))
    return _METHOD_NOT_ALLOWED.problem(f"this address allows {methods}", {"Allow": methods})


def too_many_streams(detail: str) -> Problem:
    """Return the 503 of a stream for which there is no room."""
    return _TOO_MANY_STREAMS.problem(detail)


def bad_request(detail: str) -> Problem:
    """Return a 400."""
    return _BAD_REQUEST.problem(detail)


def internal() -> Problem:
    """Return a 500; the details are in the log, not in the answer."""
    return _INTERNAL.problem("the request failed; the appliance's log has the details")


def of_status(status: int, title: str, detail: str) -> Problem:
    """Return a problem for a status that the HTTP library chose; RFC 9457 calls it about:blank."""
    return Problem(status, "about:blank", title, detail)
