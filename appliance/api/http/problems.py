"""Problem details (RFC 9457): what an error looks like to a client.

Pure: the front door (ASGI) and Flask both answer with these. `type` is a stable URN that programs
may compare; `title` says the same in words, `detail` says what was wrong this time. Nothing of the
inside (a traceback, a path, an SQL text) ever goes into one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from appliance.errors import (
    AmbiguousError,
    ApplianceError,
    BackupBusyError,
    BackupRoomError,
    BodyError,
    BrokerError,
    DeadlineError,
    EncodingError,
    InputError,
    KeyReusedError,
    RedriveError,
    RefusedError,
    SchemaError,
    StoreError,
    StoreFullError,
    TooLargeError,
    TopicError,
)

#: The media type of every error's body.
CONTENT_TYPE: Final = "application/problem+json"

_URN: Final = "urn:queue-appliance:problem:"

#: Seconds after which a client may try again when the broker refused or is away: our publisher
#: reconnects within about that time.
RETRY_BROKER_SECONDS: Final = 2
#: The same for the database; a lock or a restart of the process is over by then.
RETRY_STORE_SECONDS: Final = 2
#: The same for a backup while another is made: a gigabyte takes a few seconds.
RETRY_BACKUP_SECONDS: Final = 10
#: The same for a message that isn't stored yet; storing takes milliseconds when all is well.
RETRY_MESSAGE_SECONDS: Final = 1


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
        """Return the body: JSON, with a line's end so that curl's output is pleasant."""
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


#: error -> (status, last part of the URN, title, Retry-After in seconds or None); the first class
#: that fits counts, so subclasses stand before their parents.
_ERRORS: Final[Sequence[tuple[type[ApplianceError], int, str, str, int | None]]] = (
    (TopicError, 400, "bad-topic", "Not a topic's name", None),
    (BodyError, 400, "bad-body", "The body can't be accepted", None),
    (TooLargeError, 413, "too-large", "Larger than is accepted", None),
    (EncodingError, 415, "encoding", "Compressed bodies are not taken", None),
    (KeyReusedError, 422, "key-reused", "The key came before with another body", None),
    (RedriveError, 422, "not-redrivable", "It can't be sent again as it is", None),
    (AmbiguousError, 409, "ambiguous", "Several have this name", None),
    (InputError, 400, "bad-request", "The request can't be understood", None),
    (RefusedError, 503, "refused", "Not accepted now, and not kept", RETRY_BROKER_SECONDS),
    (DeadlineError, 503, "not-confirmed", "Not confirmed in time", RETRY_BROKER_SECONDS),
    (BrokerError, 503, "broker-unavailable", "The broker can't be used now", RETRY_BROKER_SECONDS),
    (StoreFullError, 503, "disk-full", "The store's disk is full", RETRY_STORE_SECONDS),
    (SchemaError, 503, "wrong-schema", "The database needs a migration", RETRY_STORE_SECONDS),
    (BackupBusyError, 503, "backup-busy", "Another backup is being made", RETRY_BACKUP_SECONDS),
    (BackupRoomError, 507, "no-room", "No room for a copy on the data's disk", None),
    (StoreError, 503, "store-unavailable", "The database can't be used now", RETRY_STORE_SECONDS),
)

#: Errors of the store whose words are for clients too.
_TOLD: Final = (BackupBusyError, BackupRoomError)
_STORE_DETAIL: Final = "the appliance's log says more; nothing that was accepted is lost"


def of(error: ApplianceError) -> Problem:
    """Return the problem that stands for an error of ours; one that is no client's concern: 500."""
    for kind, status, name, title, retry in _ERRORS:
        if isinstance(error, kind):
            # A store's error names a path and SQLite's words: those are for the log.
            told = not isinstance(error, StoreError) or isinstance(error, _TOLD)
            detail = str(error) if told else _STORE_DETAIL
            return Problem(status, _URN + name, title, detail, _retry(retry))
    return internal()


def unauthorized() -> Problem:
    """Return the one answer to a missing, a malformed and a wrong token."""
    return Problem(
        401,
        _URN + "unauthorized",
        "No valid token",
        "send the header Authorization: Bearer TOKEN; `appliance token` prints the token",
        {"WWW-Authenticate": 'Bearer realm="appliance"'},
    )


def forbidden(detail: str) -> Problem:
    """Return a 403: the principal is known, and lacks the right."""
    return Problem(403, _URN + "forbidden", "Not allowed", detail)


def not_found(detail: str, retry_after: int | None = None) -> Problem:
    """Return a 404; `retry_after` in seconds where what is asked for may still come."""
    return Problem(404, _URN + "not-found", "Not found", detail, _retry(retry_after))


def method_not_allowed(allow: list[str]) -> Problem:
    """Return a 405 that names the methods there are."""
    methods = ", ".join(sorted(allow))
    return Problem(
        405,
        _URN + "method-not-allowed",
        "No such method here",
        f"this address takes {methods}",
        {"Allow": methods},
    )


def bad_request(detail: str) -> Problem:
    """Return a 400."""
    return Problem(400, _URN + "bad-request", "The request can't be understood", detail)


def internal() -> Problem:
    """Return a 500; what happened is in the log, not in the answer."""
    return Problem(
        500,
        _URN + "internal",
        "A fault of the appliance",
        "the appliance's log says more; the request was not answered",
    )


def of_status(status: int, title: str, detail: str) -> Problem:
    """Return a problem for a status that the HTTP library chose; RFC 9457 calls it about:blank."""
    return Problem(status, "about:blank", title, detail)


def _retry(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}
