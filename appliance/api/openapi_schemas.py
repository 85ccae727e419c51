"""The shapes of what the API answers, as JSON Schema for the OpenAPI description."""

from typing import Any, Final

from appliance.api import problems
from appliance.errors import BrokerError, EncodingError, KeyReusedError, TooLargeError


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
    "dead_at": _TIME,
    "reason": {"type": "string", "description": "A stable word."},
    "error": {"type": "string", "description": "The same for people."},
}
_NEXT: Final[dict[str, Any]] = {
    "next": {**_nullable(_TEXT), "description": "Cursor of the next page; null: nothing more now."},
    "next_url": {**_nullable(_TEXT), "description": "Address of the next page."},
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
        newest={
            **_nullable(_TEXT),
            "description": "Cursor of the newest message here: ask `after` it for what comes.",
        },
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
        broker=_object(
            connected=_FLAG,
            blocked=_FLAG,
            accepting=_FLAG,
            reason=_nullable(_TEXT),
            depth={**_nullable(_COUNT), "description": "Envelopes that wait in the queue."},
            consumers=_nullable(_COUNT),
            checked_seconds_ago=_nullable(_SECONDS),
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
    "Unavailable": _example(problems.of(BrokerError("the broker is not connected"))),
}
