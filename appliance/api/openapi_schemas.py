"""The shapes of what the API answers, as JSON Schema for the OpenAPI description."""

from typing import Any, Final

from appliance.api.http import problems
from appliance.errors import (
    AmbiguousError,
    BackupRoomError,
    BrokerError,
    EncodingError,
    KeyReusedError,
    RedriveError,
    TooLargeError,
)


def _object(optional: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_FLAG: Final = {"type": "boolean"}
_UUID: Final = {"type": "string", "format": "uuid"}
_TIME: Final = {"type": "string", "format": "date-time"}
_SECONDS: Final = {"type": "number", "minimum": 0}
_TEXTS: Final = {"type": "array", "items": _TEXT}

_MESSAGE: Final[dict[str, Any]] = {
    "id": _UUID,
    "topic": _TEXT,
    "received_at": _TIME,
    "body": {"type": "string", "description": "Text, or base64 as `encoding` says."},
    "encoding": {"type": "string", "enum": ["utf-8", "base64"]},
}
_DEAD: Final[dict[str, Any]] = {
    "seq": {**_COUNT, "description": "The dead letter's name."},
    "dead_at": _TIME,
    "reason": {"type": "string", "description": "A stable word."},
    "error": {"type": "string", "description": "The same for people."},
    "bytes": {**_COUNT, "description": "Size of the body."},
}
_NEXT: Final[dict[str, Any]] = {
    "next": {**_nullable(_TEXT), "description": "Cursor of the next page; null: nothing more now."},
    "next_url": {**_nullable(_TEXT), "description": "Address of the next page."},
}
_NEWEST: Final[dict[str, Any]] = {
    **_nullable(_TEXT),
    "description": "Cursor of the newest one here: ask `after` it for what comes.",
}

SCHEMAS: Final[dict[str, Any]] = {
    "Message": _object(**_MESSAGE),
    "MessageState": _object(
        tuple(_DEAD),
        **_MESSAGE,
        status={
            "type": "string",
            "enum": ["stored", "dead"],
            "description": "dead: could not be stored; kept with its reason.",
        },
        **_DEAD,
    ),
    "Page": _object(
        messages={"type": "array", "items": _ref("Message")},
        **_NEXT,
        newest=_NEWEST,
    ),
    "DeadLetter": _object(
        seq=_DEAD["seq"],
        id={"type": "string", "description": "The message's id; several letters may have it."},
        topic={"type": "string", "description": "As it came: it may be no topic's name."},
        received_at=_TIME,
        dead_at=_TIME,
        reason=_DEAD["reason"],
        error=_DEAD["error"],
        bytes=_DEAD["bytes"],
        body={
            "type": ["string", "null"],
            "description": "Text, or base64 as `encoding` says; null where it has more than 8 MiB.",
        },
        encoding={"type": ["string", "null"], "enum": ["utf-8", "base64", None]},
    ),
    "DeadLetters": _object(
        dead_letters={"type": "array", "items": _ref("DeadLetter")},
        count={**_COUNT, "description": "How many have this reason and topic, on all pages."},
        **_NEXT,
        newest=_NEWEST,
    ),
    "Redriven": _object(
        id=_UUID,
        topic=_TEXT,
        received_at=_TIME,
        status={"type": "string", "const": "queued"},
        seq=_DEAD["seq"],
    ),
    "Topics": _object(
        topics={
            "type": "array",
            "items": _object(
                topic=_TEXT, messages=_COUNT, bytes=_COUNT, first_at=_TIME, last_at=_TIME
            ),
        },
        **_NEXT,
    ),
    "Published": _object(
        id=_UUID,
        topic=_TEXT,
        status={"type": "string", "enum": ["queued", "stored"]},
        received_at=_TIME,
    ),
    "PublishedBatch": _object(
        topic=_TEXT,
        status={"type": "string", "enum": ["queued", "stored"]},
        received_at=_TIME,
        count=_COUNT,
        ids={
            "type": "array",
            "items": _UUID,
            "description": "In order; only the first and the last when there are over 1,000.",
        },
    ),
    "Health": _object(status={"type": "string", "const": "ok"}),
    "Ready": _object(
        ready=_FLAG,
        reasons=_TEXTS,
        checks={"type": "object", "additionalProperties": _FLAG},
    ),
    "Status": _object(
        version=_TEXT,
        time=_TIME,
        ready=_FLAG,
        reasons=_TEXTS,
        processes={
            "type": "array",
            "items": _object(
                name=_TEXT,
                state=_TEXT,
                pid=_nullable(_COUNT),
                uptime_seconds=_nullable(_SECONDS),
                detail=_TEXT,
            ),
        },
        pulses={
            "type": "array",
            "description": "What each process said last, and since when its work stands still.",
            "items": _object(
                process=_TEXT, pid=_COUNT, state=_TEXT, status=_TEXT, seconds_ago=_SECONDS
            ),
        },
        probe={
            **_nullable(
                _object(state=_TEXT, reason=_TEXT, failing_seconds=_SECONDS, restarts=_COUNT)
            ),
            "description": "Whether the broker serves, end to end; null where nobody probes.",
        },
        broker=_object(
            connected=_FLAG,
            blocked=_FLAG,
            accepting=_FLAG,
            reason=_nullable(_TEXT),
            depth={**_nullable(_COUNT), "description": "Envelopes that wait in the queue."},
            consumers=_nullable(_COUNT),
            checked_seconds_ago=_nullable(_SECONDS),
            numbers={
                **_nullable(
                    _object(
                        source=_TEXT,
                        number={"type": "null"},
                        settled=_COUNT,
                        not_kept={"type": "array", "items": {"type": "array", "items": _COUNT}},
                    )
                ),
                "description": "Of the envelopes this API process sent: up to `settled`, all are "
                "confirmed or in the ranges `not_kept`, or the store was told that they are.",
            },
            full={**_FLAG, "description": "The queue refused the last message, and is no emptier."},
        ),
        store=_nullable(
            _object(
                messages=_COUNT,
                bytes=_COUNT,
                topics=_COUNT,
                dead_letters=_COUNT,
                last_at=_nullable(_TIME),
                database_bytes=_COUNT,
                wal_bytes=_COUNT,
                page_size=_COUNT,
                pages=_COUNT,
                free_pages=_COUNT,
            )
        ),
        disk=_nullable(_object(free_bytes=_COUNT, total_bytes=_COUNT, floor_bytes=_COUNT)),
        sqlite={"type": "string", "description": "Version of SQLite."},
    ),
    "Problem": {
        **_object(
            type={"type": "string", "format": "uri", "description": "Stable; compare this."},
            title=_TEXT,
            status={"type": "integer"},
            detail=_TEXT,
        ),
        "description": "RFC 9457.",
    },
}


def _example(problem: problems.Problem) -> dict[str, Any]:
    return {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }


#: name of a shared response -> the problem it shows
PROBLEM_EXAMPLES: Final = {
    "BadRequest": _example(problems.bad_request("limit: expected a whole number from 1 to 1000")),
    "Unauthorized": _example(problems.unauthorized()),
    "NotFound": _example(problems.not_found("there is nothing at this address")),
    "TooLarge": _example(problems.of(TooLargeError("a message has at most 1048576 bytes"))),
    "Compressed": _example(problems.of(EncodingError("send it as it is"))),
    "KeyReused": _example(problems.of(KeyReusedError("the key came before with another body"))),
    "NotRedrivable": _example(problems.of(RedriveError("it has no body"))),
    "Ambiguous": _example(problems.of(AmbiguousError("2 dead letters have this id"))),
    "NoRoom": _example(problems.of(BackupRoomError("no room for a copy of 1073741824 bytes"))),
    "Unavailable": _example(problems.of(BrokerError("the broker is not connected"))),
}
