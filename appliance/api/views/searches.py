"""Lists of messages as a request asks for them: a filter, a place to begin, a form."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flask import Response, g, request

from appliance.api.views import formats, pages, parameters, visible
from appliance.api.views.answers import csv_answer, json_answer, ndjson_answer
from appliance.api.views.columns import JsonColumns, json_columns
from appliance.model.search_words import SearchWords, searchable
from appliance.store.base import Reader
from appliance.store.filters import KINDS, MessageFilter
from appliance.store.rows import Span, StoredMessage, Window

#: Query parameters of a list of messages that come once, and those that can come several times.
PARAMETERS: Final = (
    "q", "kind", "since", "until", "after", "before", "limit", "format", "for", "columns",
)  # fmt: skip
REPEATED: Final = ("where",)
FORMATS: Final = ("json", "ndjson", "csv")


@dataclass(frozen=True)
class Asked:
    """A request for messages, read and checked."""

    wanted: MessageFilter
    span: Span
    form: str
    for_excel: bool
    columns: JsonColumns | None
    limit: int | None
    query: dict[str, str | list[str]]

    def answer(self, reader: Reader) -> Callable[[], Response]:
        """Return the function that answers; it is called once nothing is in the way."""
        return functools.partial(self._page if self.form == "json" else self._export, reader)

    def _page(self, reader: Reader) -> Response:
        limit = self.limit or parameters.DEFAULT_LIMIT
        wanted, span = self.wanted, self.span
        if (topic := wanted.nothing_but_topic) is not None:
            page = reader.page(_window(wanted, topic, span), limit)
            members: dict[str, object] = {
                "more": page.more,
                "complete": True,
                **pages.cursors(
                    [row.seq for row in page.rows],
                    more=page.more,
                    after=span.after,
                    query=self.query,
                ),
            }
            return json_answer({"messages": [*map(formats.message, page.rows)], **members})
        found = reader.find(wanted, span, limit, asker=g.principal.name)
        return json_answer(
            {
                "messages": [_shown(row, wanted.words) for row in found.rows],
                **pages.of_search(found, span, self.query),
            }
        )

    def _export(self, reader: Reader) -> Response:
        wanted, span = self.wanted, self.span
        if (topic := wanted.nothing_but_topic) is not None:
            pieces = reader.pieces(_window(wanted, topic, span), self.limit)
        else:
            pieces = reader.find_pieces(wanted, span, self.limit, asker=g.principal.name)
        return self._stream(pieces)

    def _stream(self, pieces: Iterator[list[StoredMessage]]) -> Response:
        if self.form == "csv":
            titles = self.columns.titles if self.columns else formats.COLUMNS
            cells = self.columns.cells if self.columns else formats.message_cells
            table = formats.csv_table(pieces, titles, cells, for_excel=self.for_excel)
            return csv_answer(table, self.wanted.topic or "messages")
        return ndjson_answer(formats.ndjson(pieces, formats.message))


def read(*, topics: tuple[str, ...] | None = None) -> Asked:
    """Read the present request. Without `topics`, its parameter `topic` says which.

    The caller sees to it that a topic in `topics` may be read. Raises InputError.
    """
    names = PARAMETERS if topics else (*PARAMETERS, "topic")
    query = parameters.read(request.args.to_dict(flat=False), names, REPEATED)
    texts = request.args.getlist("where")
    form = parameters.choice("format", query.get("format"), FORMATS)
    for_excel = parameters.for_excel(form, query.get("for"))
    columns = json_columns(form, query.get("columns"))
    is_page = form == "json"
    limit = (parameters.page_limit if is_page else parameters.export_limit)(query.get("limit"))
    wanted = MessageFilter(
        topics=topics or parameters.topics(query.get("topic")),
        patterns=None if topics else visible.patterns(),
        since=parameters.moment("since", query.get("since")),
        until=parameters.moment("until", query.get("until")),
        kind=parameters.kind(query.get("kind"), KINDS),
        words=parameters.search_words(query.get("q")),
        where=parameters.where(texts),
    )
    span = Span(
        before=parameters.parse_seq_cursor("before", query.get("before")),
        after=parameters.parse_seq_cursor("after", query.get("after")),
    )
    # On the next page, a span such as 10m would mean another time.
    times = {"since": wanted.since, "until": wanted.until}
    fixed: dict[str, str | list[str]] = {**query, **{n: time for n, time in times.items() if time}}
    if texts:
        fixed["where"] = texts
    return Asked(wanted, span, form, for_excel, columns, limit, fixed)


def _window(wanted: MessageFilter, topic: str, span: Span) -> Window:
    return Window(
        topic, before=span.before, after=span.after, since=wanted.since, until=wanted.until
    )


def _shown(row: StoredMessage, words: SearchWords | None) -> dict[str, object]:
    """Return a message as the API shows it; of a text search with the place of the first hit."""
    shown = formats.message(row)
    if words is not None:
        text = searchable(row.body.decode(errors="replace")) if row.text else ""
        shown["excerpt"] = [{"text": part.text, "hit": part.is_hit} for part in words.excerpt(text)]
    return shown
