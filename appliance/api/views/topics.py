"""Topics, and the messages of one topic: pages and exports."""

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.views import formats, pages, parameters
from appliance.api.views.answers import csv_answer, json_answer, ndjson_answer, problem_answer
from appliance.model.messages import check_topic
from appliance.store.sqlite.reader import Reader, Window

TOPIC_PARAMETERS = ("after", "limit")
MESSAGE_PARAMETERS = ("after", "before", "since", "limit", "format")
FORMATS = ("json", "ndjson", "csv")


def blueprint(reader: Reader) -> Blueprint:
    """Serve what `reader` finds."""
    views = Blueprint("topics", __name__)

    @views.get("/v1/topics")
    def list_topics() -> Response:
        given = parameters.parameters(request.args.to_dict(flat=False), TOPIC_PARAMETERS)
        after = parameters.parse_topic_cursor("after", given.get("after"))
        limit = (
            parameters.limit(given.get("limit"), parameters.DEFAULT_LIMIT, parameters.MAX_LIMIT)
            or 0
        )
        found = reader.topics(after=after, limit=limit + 1)
        following = parameters.topic_cursor(found[limit - 1].topic) if len(found) > limit else None
        return json_answer(
            {
                "topics": [topic._asdict() for topic in found[:limit]],
                "next": following,
                "next_url": pages.url({**given, "after": following}) if following else None,
            }
        )

    @views.get("/v1/topics/<topic>/messages")
    def list_messages(topic: str) -> Response:
        given = parameters.parameters(request.args.to_dict(flat=False), MESSAGE_PARAMETERS)
        chosen = parameters.choice("format", given.get("format"), FORMATS)
        window = Window(
            check_topic(topic),
            before=parameters.parse_seq_cursor("before", given.get("before")),
            after=parameters.parse_seq_cursor("after", given.get("after")),
            since=parameters.since(given.get("since")),
        )
        if chosen == "json":
            limit = parameters.limit(
                given.get("limit"), parameters.DEFAULT_LIMIT, parameters.MAX_LIMIT
            )
        else:
            limit = parameters.limit(given.get("limit"), None, parameters.MAX_EXPORT)
        if not reader.has_topic(topic):
            return problem_answer(
                problems.not_found(
                    f"nothing of the topic {topic} was ever stored",
                    problems.RETRY_MESSAGE_SECONDS,
                )
            )
        if chosen != "json":
            return _export(reader, window, limit, chosen)
        return _page(reader, window, limit or parameters.DEFAULT_LIMIT, given)

    return views


def _page(reader: Reader, window: Window, limit: int, given: dict[str, str]) -> Response:
    """Answer one page."""
    page = reader.page(window, limit)
    # A span such as 10m would mean another time on the next page.
    fixed = given | ({"since": window.since} if window.since else {})
    seqs = [row.seq for row in page.rows]
    return json_answer(
        {
            "messages": [formats.message(row) for row in page.rows],
            **pages.cursors(seqs, more=page.more, after=window.after, given=fixed),
        }
    )


def _export(reader: Reader, window: Window, limit: int | None, chosen: str) -> Response:
    pieces = reader.pieces(window, limit)
    if chosen == "csv":
        table = formats.csv_table(pieces, formats.COLUMNS, formats.message_cells)
        return csv_answer(table, window.topic)
    return ndjson_answer(formats.ndjson(pieces, formats.message))
