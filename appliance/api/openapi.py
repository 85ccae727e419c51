"""The interface, described as OpenAPI 3.1.

Written by hand, next to the code it describes: a test compares its addresses and methods with the
application's, and its parameters with those the views take.
"""

from collections.abc import Sequence
from typing import Any, Final

from appliance.api.openapi_schemas import PROBLEM_EXAMPLES, SCHEMAS
from appliance.api.views import formats, parameters
from appliance.config import Config

#: Responses that many operations share: component name -> (status, what it means).
_PROBLEMS: Final = {
    "BadRequest": ("400", "The request can't be understood; `detail` says why."),
    "Unauthorized": ("401", "No valid token; always the same answer."),
    "NotFound": ("404", "There is no such thing (yet)."),
    "TooLarge": ("413", "More bytes or messages than a limit allows; nothing was kept."),
    "Compressed": ("415", "Compressed bodies are not taken; nothing was kept."),
    "KeyReused": ("422", "The idempotency key came before with another body; nothing was kept."),
    "Ambiguous": ("409", "Several dead letters have this message's id; name one by its `seq`."),
    "NotRedrivable": ("422", "As it is it would only die again; `detail` says why. It is kept."),
    "NoRoom": ("507", "No room for the copy on the data's disk; nothing was made."),
    "Unavailable": ("503", "Not possible now; try again after `Retry-After` seconds."),
}

_TOPIC: Final[dict[str, Any]] = {
    "name": "topic",
    "in": "path",
    "required": True,
    "description": "1 to 100 of a-z, 0-9, dot, underscore and dash; first a letter or a digit.",
    "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,99}$"},
}
_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The message's id, as publishing answered it.",
    "schema": {"type": "string", "format": "uuid"},
}
_LETTER: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The dead letter's `seq`; or its message's id, where no other letter has it.",
    "schema": {"type": "string"},
}


def describe(config: Config, version: str) -> dict[str, Any]:
    """Return the description of an API of this version with these limits."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Queue Appliance",
            "version": version,
            "description": "A durable HTTP inbox: POST a message, find it as a row of a SQLite "
            "file. Answer 202 means that the message is on disk.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            "/v1/topics": {"get": _topics()},
            "/v1/topics/{topic}/messages": {
                "parameters": [_TOPIC],
                "get": _messages(),
                "post": _publish(config, "publish"),
                "put": _publish(config, "publishByPut"),
            },
            "/v1/messages/{id}": {"parameters": [_ID], "get": _message()},
            "/v1/messages/{id}/body": {
                "parameters": [_ID],
                "get": _body("messageBody", "The message's bytes, exactly as they came."),
            },
            "/v1/dead-letters": {"get": _dead_letters()},
            "/v1/dead-letters/{id}": {
                "parameters": [_LETTER],
                "get": _dead_letter(),
                "delete": _discard(),
            },
            "/v1/dead-letters/{id}/body": {
                "parameters": [_LETTER],
                "get": _body("deadLetterBody", "The letter's bytes.", "Ambiguous"),
            },
            "/v1/dead-letters/{id}/redrive": {"parameters": [_LETTER], "post": _redrive()},
            "/v1/status": {
                "get": _get("status", "Processes, broker, queue, store and disk.", "Status")
            },
            "/v1/backup": {"get": _backup()},
            "/healthz": {"get": _open(_get("health", "This process answers.", "Health"))},
            "/readyz": {"get": _readiness()},
            "/openapi.json": {
                "get": _get("openapi", "This description.", {"type": "object"}),
            },
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The administrator's token: `appliance token` prints it.",
                }
            },
            "schemas": SCHEMAS,
            "responses": {name: _problem(name) for name in _PROBLEMS},
        },
    }


def _problem(name: str) -> dict[str, Any]:
    status, text = _PROBLEMS[name]
    answer: dict[str, Any] = {
        "description": text,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": PROBLEM_EXAMPLES[name],
            }
        },
    }
    if status in {"404", "503"}:
        answer["headers"] = {
            "Retry-After": {
                "description": "Seconds; on a 404 only where what is asked for may still come.",
                "schema": {"type": "integer"},
            }
        }
    return answer


def _fails(*names: str) -> dict[str, Any]:
    return {_PROBLEMS[name][0]: {"$ref": f"#/components/responses/{name}"} for name in names}


def _json(text: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema, str):
        schema = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _get(operation: str, summary: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _json(summary, schema), **_fails("Unauthorized")},
    }


def _open(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the operation as one that needs no token."""
    answers = {status: a for status, a in operation["responses"].items() if status != "401"}
    return {**operation, "security": [], "responses": answers}


def _parameter(name: str, text: str, schema: dict[str, Any], where: str = "query") -> Any:
    return {"name": name, "in": where, "description": text, "schema": schema}


def _limit(most: int) -> Any:
    text = f"How many at most; {parameters.DEFAULT_LIMIT} if not given"
    schema = {
        "type": "integer",
        "minimum": 1,
        "maximum": most,
        "default": parameters.DEFAULT_LIMIT,
    }
    return _parameter("limit", text + ".", schema)


def _topics() -> dict[str, Any]:
    operation = _get("topics", "Topics by name, with count, bytes, first and last time.", "Topics")
    operation["parameters"] = [
        _parameter("after", "Go on after this cursor.", {"type": "string"}),
        _limit(parameters.MAX_LIMIT),
    ]
    operation["responses"] |= _fails("BadRequest", "Unavailable")
    return operation


def _export_parameters() -> list[Any]:
    """Return `limit` and `format` of an address that gives pages and exports."""
    limit = _limit(parameters.MAX_LIMIT)
    limit["description"] += " With format=ndjson or csv there is no bound, unless one is given."
    del limit["schema"]["maximum"]
    words = {"type": "string", "enum": ["json", "ndjson", "csv"], "default": "json"}
    text = "ndjson and csv are streamed, without a limit unless one is given."
    return [limit, _parameter("format", text, words)]


def _page(schema: str, item: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return the answer of such an address."""
    page = _json(
        "A page, a page's end being 8 MiB of bodies too; or an export of everything asked for.",
        schema,
    )
    page["content"]["application/x-ndjson"] = {
        "schema": {"type": "string", "description": f"One {item} a line."}
    }
    page["content"]["text/csv"] = {
        "schema": {
            "type": "string",
            "description": f"{', '.join(columns)}. A cell that begins with "
            "= + - @, tab, CR or LF gets an apostrophe before it, since spreadsheets would run it "
            "as a formula; ask for ndjson to get every byte as it came.",
        }
    }
    return page


def _messages() -> dict[str, Any]:
    return {
        "operationId": "messages",
        "summary": "Messages of a topic: newest first, or oldest first with `after`.",
        "parameters": [
            _parameter(
                "after",
                "Only what was stored after this cursor, oldest first; following `next` skips "
                "nothing. 0 stands for the beginning.",
                {"type": "string"},
            ),
            _parameter("before", "Only what was stored before this cursor.", {"type": "string"}),
            _parameter(
                "since",
                "Only what was received in the last span (30s, 10m, 2h, 1d, 1w) or from an ISO "
                "8601 time on.",
                {"type": "string", "examples": ["10m", "2026-01-31T12:00:00Z"]},
            ),
            *_export_parameters(),
        ],
        "responses": {
            "200": _page("Page", "Message", formats.COLUMNS),
            **_fails("BadRequest", "Unauthorized", "NotFound", "Unavailable"),
        },
    }


def _publish(config: Config, operation: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": "Publish a message, or a batch that is kept whole or not at all.",
        "description": (
            "The whole body is one message, whatever its type. With `Content-Type: "
            "application/x-ndjson` each line is one message and must be JSON; with `?split=lines` "
            "each line of the body is one message. Empty lines are skipped. A message has at most "
            f"{config.max_message_bytes} bytes, a request at most {config.max_request_bytes} "
            f"bytes and {config.max_batch_messages} messages. A 503 after a time-out means that "
            "it is not known whether the messages were kept: send them again with the same "
            "Idempotency-Key."
        ),
        "parameters": [
            _parameter(
                "split",
                "`lines`: each line is one message.",
                {"type": "string", "enum": ["lines"]},
            ),
            _parameter(
                "Idempotency-Key",
                "The same key with the same body is the same message again; with another body "
                "it is refused with 422. `webhook-id` and `X-GitHub-Delivery` count as such keys.",
                {"type": "string", "maxLength": 255},
                "header",
            ),
            _parameter(
                "Prefer",
                "`wait=N`: answer 201 once it is stored, or 202 after N seconds (RFC 7240).",
                {"type": "string", "examples": ["wait=5"]},
                "header",
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "*/*": {"schema": {"type": "string", "format": "binary"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "201": _published("It is stored: `Prefer: wait` was asked for and enough."),
            "202": _published("It is on disk, and will be stored."),
            **_fails("BadRequest", "Unauthorized", "TooLarge", "Compressed", "KeyReused"),
            **_fails("Unavailable"),
        },
    }


def _published(text: str) -> dict[str, Any]:
    either = [{"$ref": f"#/components/schemas/{name}"} for name in ("Published", "PublishedBatch")]
    answer = _json(text, {"oneOf": either})
    answer["headers"] = {
        "Location": {
            "description": "Address of a single message.",
            "schema": {"type": "string"},
        },
        "Preference-Applied": {
            "description": "What of `Prefer` was heeded.",
            "schema": {"type": "string"},
        },
    }
    return answer


def _message() -> dict[str, Any]:
    operation = _get("message", "One message and its state.", "MessageState")
    operation["responses"] |= _fails("BadRequest", "NotFound", "Unavailable")
    return operation


def _body(operation: str, summary: str, *problems: str) -> dict[str, Any]:
    bytes_ = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {
                "description": "text/plain where a message's are UTF-8 without NUL.",
                "content": {"text/plain": bytes_, "application/octet-stream": bytes_},
            },
            **_fails("BadRequest", "Unauthorized", "NotFound", *problems, "Unavailable"),
        },
    }


def _dead_letters() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "operationId": "deadLetters",
        "summary": "What could not be stored, and why: newest first, or oldest first with `after`.",
        "parameters": [
            _parameter("reason", "Only those that died of this.", text),
            _parameter("topic", "Only those of this topic.", text),
            _parameter("after", "Only later ones, oldest first; 0: from the beginning.", text),
            _parameter("before", "Only what came before this cursor.", text),
            *_export_parameters(),
        ],
        "responses": {
            "200": _page("DeadLetters", "DeadLetter", formats.LETTER_COLUMNS),
            **_fails("BadRequest", "Unauthorized", "Unavailable"),
        },
    }


def _dead_letter() -> dict[str, Any]:
    operation = _get("deadLetter", "One dead letter.", "DeadLetter")
    operation["responses"] |= _fails("BadRequest", "NotFound", "Ambiguous", "Unavailable")
    return operation


def _redrive() -> dict[str, Any]:
    answer = _json("Its message is on disk in the queue again, and the letter is gone.", "Redriven")
    return {
        "operationId": "redrive",
        "summary": "Send a dead letter's message again, and remove the letter.",
        "description": "Safe to repeat: however often it is asked for, and whatever is killed in "
        "between, there is one message. Its time is that of the redrive.",
        "parameters": [
            _parameter("topic", "Where to; else to the letter's own topic.", _TOPIC["schema"])
        ],
        "responses": {
            "202": answer,
            **_fails("BadRequest", "Unauthorized", "NotFound", "Ambiguous", "NotRedrivable"),
            **_fails("Unavailable"),
        },
    }


def _discard() -> dict[str, Any]:
    return {
        "operationId": "discard",
        "summary": "Remove a dead letter for good.",
        "responses": {
            "204": {"description": "It is gone."},
            **_fails("BadRequest", "Unauthorized", "NotFound", "Ambiguous", "Unavailable"),
        },
    }


def _backup() -> dict[str, Any]:
    return {
        "operationId": "backup",
        "summary": "A consistent copy of the database, made now and checked.",
        "description": "The answer begins when the copy is made, which takes a few seconds for "
        "each gigabyte. One is made at a time.",
        "responses": {
            "200": {
                "description": "A SQLite file; needs no other file beside it.",
                "headers": {
                    "Content-Disposition": {
                        "description": "A file name with the time.",
                        "schema": {"type": "string"},
                    }
                },
                "content": {
                    "application/vnd.sqlite3": {"schema": {"type": "string", "format": "binary"}}
                },
            },
            **_fails("BadRequest", "Unauthorized", "NoRoom", "Unavailable"),
        },
    }


def _readiness() -> dict[str, Any]:
    operation = _open(_get("readiness", "A message sent now would be kept and stored.", "Ready"))
    operation["responses"]["503"] = _json("It would not, and why.", "Ready")
    return operation
