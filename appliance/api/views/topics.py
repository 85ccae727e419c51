"""Topics, and the messages of one topic: pages and exports."""

from collections.abc import Callable, Iterator
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from appliance.api import formats, problems, query
from appliance.api.answers import json_answer, problem_answer
from appliance.messages import check_topic
from appliance.store.reader import Reader, Row, Window

TOPIC_PARAMETERS = ("after", "limit")
MESSAGE_PARAMETERS = ("after", "before", "since", "limit", "format")
FORMATS = ("json", "ndjson", "csv")

_EXPORTS: dict[str, tuple[str, Callable[[Iterator[list[Row]]], Iterator[bytes]]]] = {
    "ndjson": (formats.NDJSON, formats.ndjson),
    "csv": (formats.CSV, formats.csv_table),
}


def blueprint(reader: Reader) -> Blueprint:
    """Serve what `reader` finds."""
    views = Blueprint("topics", __name__)

    @views.get("/v1/topics")
    def list_topics() -> Response:
        given = query.parameters(request.args.to_dict(flat=False), TOPIC_PARAMETERS)
        after = query.parse_topic_cursor("after", given.get("after"))
        limit = query.limit(given.get("limit"), query.DEFAULT_LIMIT, query.MAX_LIMIT) or 0
        found = reader.topics(after=after, limit=limit + 1)
        following = query.topic_cursor(found[limit - 1].topic) if len(found) > limit else None
        return json_answer(
            {
                "topics": [topic._asdict() for topic in found[:limit]],
                "next": following,
                "next_url": _url({**given, "after": following}) if following else None,
            }
        )

    @views.get("/v1/topics/<topic>/messages")
    def list_messages(topic: str) -> Response:
        given = query.parameters(request.args.to_dict(flat=False), MESSAGE_PARAMETERS)
        chosen = query.choice("format", given.get("format"), FORMATS)
        window = Window(
            check_topic(topic),
            before=query.parse_seq_cursor("before", given.get("before")),
            after=query.parse_seq_cursor("after", given.get("after")),
            since=query.since(given.get("since")),
        )
        if chosen == "json":
            limit = query.limit(given.get("limit"), query.DEFAULT_LIMIT, query.MAX_LIMIT)
        else:
            limit = query.limit(given.get("limit"), None, query.MAX_EXPORT)
        if not reader.has_topic(topic):
            return problem_answer(
                problems.not_found(
                    f"nothing of the topic {topic} was ever stored",
                    problems.RETRY_MESSAGE_SECONDS,
                )
            )
        if chosen != "json":
            return _export(reader, window, limit, chosen)
        return _page(reader, window, limit or query.DEFAULT_LIMIT, given)

    return views


def _page(reader: Reader, window: Window, limit: int, given: dict[str, str]) -> Response:
    """Answer one page.

    `next` goes on in the page's own direction and is null where nothing more is there; `newest` is
    the place to ask `after` for what is stored later.
    """
    page = reader.page(window, limit)
    seqs = [row.seq for row in page.rows]
    following = query.seq_cursor(seqs[-1]) if page.more else None
    newest = max(seqs, default=window.after)
    direction = "before" if window.after is None else "after"
    url = None
    if following:
        # A span such as 10m would mean another time on the next page.
        fixed = {"since": window.since} if window.since else {}
        url = _url({**given, **fixed, direction: following})
    return json_answer(
        {
            "messages": [formats.message(row) for row in page.rows],
            "next": following,
            "next_url": url,
            "newest": None if newest is None else query.seq_cursor(newest),
        }
    )


def _export(reader: Reader, window: Window, limit: int | None, chosen: str) -> Response:
    media_type, write = _EXPORTS[chosen]
    answer = Response(write(reader.pieces(window, limit)), content_type=media_type)
    if chosen == "csv":
        answer.headers["Content-Disposition"] = f'attachment; filename="{window.topic}.csv"'
    return answer


def _url(parameters: dict[str, str | None]) -> str:
    """Return this address with other parameters; relative, so that it holds behind a proxy."""
    return f"{request.path}?{urlencode({k: v for k, v in parameters.items() if v is not None})}"
