"""Topics, and the messages of one topic: pages and exports."""

import functools

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import formats, pages, parameters, visible
from appliance.api.views.answers import csv_answer, json_answer, ndjson_answer, problem_answer
from appliance.api.views.columns import JsonColumns, json_columns
from appliance.model.topics import check_topic
from appliance.store.base import Reader
from appliance.store.rows import Window

TOPIC_PARAMETERS = ("after", "limit")
MESSAGE_PARAMETERS = ("after", "before", "since", "until", "limit", "format", "for", "columns")
FORMATS = ("json", "ndjson", "csv")


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/topics and the messages of one topic."""
    views = Blueprint("topics", __name__)
    reader = services.reader

    @views.get("/v1/topics")
    def list_topics() -> Response:
        query = parameters.read(request.args.to_dict(flat=False), TOPIC_PARAMETERS)
        after = parameters.parse_topic_cursor("after", query.get("after"))
        limit = parameters.page_limit(query.get("limit"))
        rows = reader.topics(after=after, limit=limit + 1, patterns=visible.patterns())
        following = parameters.topic_cursor(rows[limit - 1].topic) if len(rows) > limit else None
        return json_answer(
            {
                "topics": [topic._asdict() for topic in rows[:limit]],
                "next": following,
                "next_url": pages.url({**query, "after": following}) if following else None,
            }
        )

    @views.get("/v1/topics/<topic>/messages")
    def list_messages(topic: str) -> Response:
        query = parameters.read(request.args.to_dict(flat=False), MESSAGE_PARAMETERS)
        form = parameters.choice("format", query.get("format"), FORMATS)
        for_excel = parameters.for_excel(form, query.get("for"))
        columns = json_columns(form, query.get("columns"))
        window = Window(
            check_topic(topic),
            before=parameters.parse_seq_cursor("before", query.get("before")),
            after=parameters.parse_seq_cursor("after", query.get("after")),
            since=parameters.moment("since", query.get("since")),
            until=parameters.moment("until", query.get("until")),
        )
        if not visible.sees(topic):
            return problem_answer(problems.forbidden("the token has no right to read this topic"))
        if form == "json":
            limit = parameters.page_limit(query.get("limit"))
            answer = functools.partial(_page, reader, window, limit, query)
        else:
            most = parameters.export_limit(query.get("limit"))
            answer = functools.partial(
                _export, reader, window, most, form, columns, for_excel=for_excel
            )
        if not reader.has_topic(topic):
            if request.method == "HEAD":  # senders look whether they can send to an address
                return Response(status=200)
            return problem_answer(
                problems.not_found(
                    f"the topic {topic} has never had a message", problems.RETRY_MESSAGE_SECONDS
                )
            )
        return answer()

    return views


def _page(reader: Reader, window: Window, limit: int, query: dict[str, str]) -> Response:
    """Answer one page."""
    page = reader.page(window, limit)
    # On the next page, a span such as 10m would mean another time.
    times = {"since": window.since, "until": window.until}
    fixed = query | {name: time for name, time in times.items() if time}
    seqs = [row.seq for row in page.rows]
    return json_answer(
        {
            "messages": [formats.message(row) for row in page.rows],
            **pages.cursors(seqs, more=page.more, after=window.after, query=fixed),
        }
    )


def _export(
    reader: Reader,
    window: Window,
    limit: int | None,
    form: str,
    columns: JsonColumns | None,
    *,
    for_excel: bool,
) -> Response:
    pieces = reader.pieces(window, limit)
    if form == "csv":
        titles = columns.titles if columns else formats.COLUMNS
        cells = columns.cells if columns else formats.message_cells
        table = formats.csv_table(pieces, titles, cells, for_excel=for_excel)
        return csv_answer(table, window.topic)
    return ndjson_answer(formats.ndjson(pieces, formats.message))
