"""A list of messages as its address asks for it: the address is all that a list knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from werkzeug.datastructures import MultiDict

from appliance.console.page_words import plural, whole_text
from appliance.console.rights import principal
from appliance.errors import InputError
from appliance.model.conditions import json_path, parse_condition
from appliance.model.cursors import parse_seq_cursor, seq_cursor
from appliance.model.json_path import JsonPath
from appliance.model.moments import moment
from appliance.model.search_box import parse_box
from appliance.model.search_words import SearchWords, parse_words, searchable
from appliance.store.base import Reader
from appliance.store.filters import KINDS, MessageFilter
from appliance.store.rows import Page, Span, StoredMessage, Window

#: Rows of a page.
ROWS: Final = 50
#: Bytes of bodies that a page reads at most: large ones make a shorter page.
_PAGE_BYTES: Final = 4 * 2**20
#: Characters of a body that its row shows.
_PREVIEW: Final = 200
_MOST_CONDITIONS: Final = 20
#: Characters of the search field, which are in the address too.
_MOST_TYPED: Final = 1000
_MOST_COLUMNS: Final = 8
#: The parts of what was typed, each of which can be taken away.
_TYPED: Final = re.compile(r'-?"[^"]*"?\*?|\S+')

#: Parameters that say where in the list one is.
_PLACE: Final = ("before", "after", "open")
#: All parameters, but for `where`, which can come several times.
_PARAMETERS: Final = ("q", "topic", "since", "until", "kind", "cols", "facet", *_PLACE)

Query = list[tuple[str, str]]


@dataclass(frozen=True)
class Chip:
    """A part of the filter, and the address of the list without it."""

    text: str
    without: str


@dataclass(frozen=True)
class Row:
    """A message as a row of the list."""

    message: StoredMessage
    #: the body's beginning, or the place of the first hit: text, and whether it is a hit
    parts: list[tuple[str, bool]]
    #: values of the chosen columns
    cells: list[str]
    kind: str


@dataclass(frozen=True)
class Listing:
    """A list: the filter, the place, and the parameters that say so."""

    query: Query
    wanted: MessageFilter
    span: Span
    columns: list[tuple[str, JsonPath]]
    #: the parameters of the API's call that finds the same
    api: Query
    #: what was typed and could not be taken as it was meant
    notes: list[str]

    def value(self, name: str) -> str:
        """Return a parameter, for a field of the form."""
        return next((value for key, value in self.query if key == name), "")

    def url(self, *drop: str, **put: str | None) -> str:
        """Return the query of the list with other parameters; None removes one."""
        names = {*drop, *put}
        kept = [pair for pair in self.query if pair[0] not in names]
        kept += [(name, value) for name, value in put.items() if value]
        return f"?{urlencode(kept)}" if kept else "?"

    def first_page(self, *drop: str, **put: str | None) -> str:
        """Return the query of the newest messages of this list."""
        return self.url(*_PLACE, *drop, **put)

    def and_where(self, condition: str) -> str:
        """Return the query of the newest messages that fulfil a further condition too."""
        kept = [pair for pair in self.query if pair[0] not in _PLACE]
        return f"?{urlencode([*kept, ('where', condition)])}"

    def and_column(self, name: str) -> str:
        """Return the query of the list with a further column."""
        names = [each for each, _ in self.columns]
        return self.first_page(cols=",".join([*names, name]))

    def without_column(self, name: str) -> str:
        """Return the query of the list without a column."""
        return self.first_page(cols=",".join(each for each, _ in self.columns if each != name))

    @property
    def search(self) -> str:
        """The query of the search alone, wherever in the list it is."""
        return self.first_page().lstrip("?")

    def chips(self) -> list[Chip]:
        """Return the parts of the filter that can be taken away."""
        shown = {"topic": "topic {}", "since": "since {}", "until": "until {}",
                 "kind": "{} only", "where": "{}"}  # fmt: skip
        typed = _TYPED.findall(self.value("q"))
        chips = [
            Chip(word, self.first_page(q=" ".join(typed[:place] + typed[place + 1 :])))
            for place, word in enumerate(typed)
        ]
        for place, (name, value) in enumerate(self.query):
            if name in shown:
                rest = [pair for at, pair in enumerate(self.query) if at != place]
                rest = [pair for pair in rest if pair[0] not in _PLACE]
                chips.append(Chip(shown[name].format(value), f"?{urlencode(rest)}"))
        return chips

    @property
    def is_live(self) -> bool:
        """Whether it shows the newest messages, to which others can be added."""
        names = {name for name, _ in self.query}
        return not names & {"before", "after", "until", "open", "q", "where", "kind"}

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves out messages."""
        return bool(self.chips())


@dataclass(frozen=True)
class ListPage:
    """Rows of a list, newest first, and the ways on."""

    rows: list[Row]
    newer: str
    older: str
    words: str
    #: cursor behind the newest row, from which a stream goes on
    newest: str
    #: rows of this very page, for links that open one of them
    at: str


def read_listing(
    args: Mapping[str, str], patterns: tuple[str, ...] | None, topic: str | None
) -> Listing:
    """Read the parameters of a list (a mapping; `where` can come several times).

    Whatever is typed into the search field is valid. Raises InputError for other values.
    """
    notes: list[str] = []
    query: Query = []
    for name in (
        "q",
        "topic",
        "since",
        "until",
        "kind",
        "cols",
        "facet",
        "before",
        "after",
        "open",
    ):
        value = args.get(name, "").strip()
        if value and not (name == "topic" and topic):
            query.append((name, value[:_MOST_TYPED]))
    typed = parse_box(args.get("q", "")[:_MOST_TYPED])
    text, words = typed.words, parse_words(typed.words)
    notes += [f"{note}." for note in typed.notes]
    conditions = []
    several = args.getlist("where") if isinstance(args, MultiDict) else []
    for text in several[:_MOST_CONDITIONS]:
        try:
            conditions.append(parse_condition(text))
        except ValueError as error:
            raise InputError(f"where: {error}") from error
        query.append(("where", text))
    named = topic or args.get("topic", "").strip()
    span = Span(
        before=parse_seq_cursor("before", args.get("before") or None),
        after=parse_seq_cursor("after", args.get("after") or None),
    )
    wanted = MessageFilter(
        topics=(named,) if named else None,
        patterns=patterns,
        since=moment("since", args.get("since", "").strip() or None),
        until=moment("until", args.get("until", "").strip() or None),
        kind=next((kind for kind in KINDS if kind == args.get("kind")), None),
        words=words,
        where=(*typed.conditions, *conditions),
    )
    api = [pair for pair in query if pair[0] in ("topic", "since", "until", "kind")]
    api += [("q", text)] if text else []
    api += [("where", str(each)) for each in wanted.where]
    return Listing(query, wanted, span, _columns(args.get("cols", ""), notes), api, notes)


def find(reader: Reader, listing: Listing, limit: int = ROWS) -> ListPage:
    """Return a page of the list. Raises StoreError."""
    page, words = _read(reader, listing, limit)
    rows = page.rows[::-1] if listing.span.after is not None else page.rows
    shown = [_row(row, listing) for row in rows]
    newer = older = ""
    is_forward = listing.span.after is not None
    if rows:
        # Whoever came by "older" can go back; whoever came by "newer" can go on if there is more.
        if page.more if is_forward else listing.span.before is not None:
            newer = listing.url("before", "open", after=seq_cursor(rows[0].seq))
        if is_forward or page.more:
            older = listing.url("after", "open", before=seq_cursor(rows[-1].seq))
    newest = seq_cursor(rows[0].seq) if rows else "0"
    at = seq_cursor(rows[0].seq + 1) if rows else ""
    return ListPage(shown, newer, older, words, newest, at)


def preview(message: StoredMessage) -> str:
    """Return the beginning of a body on one line."""
    if not message.text:
        return message.body[:64].hex(" ")
    text = message.body[: _PREVIEW * 4].decode(errors="replace")
    return " ".join(text[: _PREVIEW * 2].split())[:_PREVIEW]


def _read(reader: Reader, listing: Listing, limit: int) -> tuple[Page[StoredMessage], str]:
    """Return a page of rows, and what is to be said of it."""
    wanted, span = listing.wanted, listing.span
    topic = wanted.nothing_but_topic
    if topic is not None:
        window = Window(
            topic, before=span.before, after=span.after, since=wanted.since, until=wanted.until
        )
        page = reader.page(window, limit, _PAGE_BYTES)
        return page, _found(page, is_complete=True)
    found = reader.find(wanted, span, limit, _PAGE_BYTES, asker=principal().name)
    return found, _found(found, is_complete=found.is_complete)


def _found(page: Page[StoredMessage], *, is_complete: bool) -> str:
    count = f"{len(page.rows)}+ found" if page.more else f"{plural(len(page.rows), 'message')}"
    return count if is_complete else f"{count}, the search took long and goes on with older ones"


def _row(message: StoredMessage, listing: Listing) -> Row:
    words: SearchWords | None = listing.wanted.words
    if words is not None and message.text:
        text = searchable(message.body.decode(errors="replace"))
        parts = [(part.text, part.is_hit) for part in words.excerpt(text)]
    else:
        parts = [(preview(message), False)]
    return Row(message, parts, _cells(message, listing.columns), kind_of(message))


def kind_of(message: StoredMessage) -> str:
    """Return whether a body is binary, looks like JSON, or is other text."""
    if not message.text:
        return "binary"
    return "json" if message.body.lstrip()[:1] in (b"{", b"[") else "text"


def _cells(message: StoredMessage, columns: list[tuple[str, JsonPath]]) -> list[str]:
    if not columns:
        return []
    from appliance.model.json_pretty import compact, exact  # noqa: PLC0415

    try:
        document = exact(message.body.decode()) if message.text else None
    except ValueError:
        document = None
    cells = []
    for _, path in columns:
        value = path.find(document)
        if value is None:
            cells.append("")
        else:
            cell = str(value) if isinstance(value, str) else compact(value)
            cells.append(whole_text(cell[:_PREVIEW]))
    return cells


def _columns(text: str, notes: list[str]) -> list[tuple[str, JsonPath]]:
    columns = []
    for name in [each.strip() for each in text.split(",") if each.strip()][:_MOST_COLUMNS]:
        try:
            columns.append((name, json_path(name)))
        except ValueError:
            notes.append(f"{name} is no path into JSON, so it is no column.")
    return columns
