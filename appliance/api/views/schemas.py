"""JSON Schemas of topics, for administrators: set, show, try and remove them."""

import time
from typing import Any, Final

import orjson
from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import parameters, visible
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.errors import InputError
from appliance.model import timestamps
from appliance.model.topics import check_topic
from appliance.schemas.book import MODES
from appliance.schemas.checker import SchemaChecker
from appliance.store.access_rows import Deed, SchemaRow
from appliance.store.rows import Window

#: Messages that a schema is tried on: unless the request says, and at most; seconds of it.
_TRIED: Final = 1000
_MOST_TRIED: Final = 100_000
_TRY_SECONDS: Final = 5.0
#: Errors that the outcome lists.
_LISTED: Final = 20


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/schemas and /v1/topics/{topic}/schema."""
    views = Blueprint("schemas", __name__)
    schemas = services.schemas

    @views.get("/v1/schemas")
    def list_schemas() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        rows = [row for row in schemas.all() if visible.sees(row.topic)]
        return json_answer({"schemas": [_shown(services, row) for row in rows]})

    @views.get("/v1/topics/<topic>/schema")
    def show_schema(topic: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return _answer(services, check_topic(topic))

    @views.put("/v1/topics/<topic>/schema")
    def set_schema(topic: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("mode",))
        mode = parameters.choice("mode", query.get("mode"), MODES)
        text = request.get_data()
        SchemaChecker(text)
        row = SchemaRow(check_topic(topic), mode, text.decode(), timestamps.now())
        is_new = schemas.put(row, Deed(actor(), "schema-set", topic, f"mode {mode}"))
        services.refresher.refresh()
        return json_answer(
            {**_shown(services, row), "schema": _document(row)}, 201 if is_new else 200
        )

    @views.delete("/v1/topics/<topic>/schema")
    def remove_schema(topic: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not schemas.remove(check_topic(topic), Deed(actor(), "schema-remove", topic)):
            return _unknown(topic)
        services.refresher.refresh()
        return Response(status=204)

    @views.post("/v1/topics/<topic>/schema/test")
    def test_schema(topic: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), ("last",))
        count = _count(query.get("last"))
        text = request.get_data()
        if not text:
            row = schemas.find(check_topic(topic))
            if row is None:
                return _unknown(topic)
            text = row.schema.encode()
        return json_answer(_tried(services, check_topic(topic), SchemaChecker(text), count))

    return views


def _answer(services: Services, topic: str) -> Response:
    if not visible.sees(topic):
        return problem_answer(problems.forbidden("the token has no right to read this topic"))
    row = services.schemas.find(topic)
    if row is None:
        return _unknown(topic)
    return json_answer({**_shown(services, row), "schema": _document(row)})


def _tried(services: Services, topic: str, checker: SchemaChecker, count: int) -> dict[str, object]:
    """Check the topic's newest messages, within bounds; nothing is changed."""
    end = time.monotonic() + _TRY_SECONDS
    checked = invalid = 0
    errors: list[dict[str, object]] = []
    is_whole = True
    before: int | None = None
    while is_whole and checked < count:
        page = services.reader.page(Window(topic, before=before), min(count - checked, 200))
        for message in page.rows:
            if time.monotonic() > end:
                is_whole = False
                break
            checked += 1
            if error := checker.error(message.body):
                invalid += 1
                if len(errors) < _LISTED:
                    errors.append({"id": message.id, "error": error})
        if not page.more or not page.rows:
            break
        before = page.rows[-1].seq
    return {
        "topic": topic,
        "checked": checked,
        "invalid": invalid,
        "stopped": not is_whole,
        "errors": errors,
    }


def _shown(services: Services, row: SchemaRow) -> dict[str, Any]:
    """Return what is told of a schema, with what this process has counted since it was set."""
    open_schema = services.book.of(row.topic)
    is_same = open_schema is not None and open_schema.row == row
    checker = open_schema.checker if open_schema and is_same else None
    return {
        "topic": row.topic,
        "mode": row.mode,
        "changed_at": row.changed_at,
        "usable": checker is not None,
        "max_body_bytes": checker.max_bytes if checker else None,
        "checked": open_schema.checked if open_schema and is_same else 0,
        "invalid": open_schema.invalid if open_schema and is_same else 0,
    }


def _document(row: SchemaRow) -> Any:
    try:
        return orjson.loads(row.schema)
    except orjson.JSONDecodeError:  # written by SQL
        return row.schema


def _count(text: str | None) -> int:
    if text is None:
        return _TRIED
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST_TRIED):
        raise InputError(f"last: expected a whole number from 1 to {_MOST_TRIED}")
    return int(text)


def _unknown(topic: str) -> Response:
    return problem_answer(problems.not_found(f"the topic {topic} has no schema"))
