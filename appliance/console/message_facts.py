"""One message as its page shows it: the facts, and its body in the form that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from appliance.auth.principal import Right
from appliance.console.json_lines import JsonFaultError, JsonLine, TooManyLines, json_lines
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import patterns, principal
from appliance.model.ids import is_id
from appliance.store.rows import Letter, StoredMessage, Window

#: Bytes of a body that are laid out as JSON, and that are shown of a longer one.
_MOST_LAID_OUT: Final = 256 * 1024
SHOWN: Final = 64 * 1024
#: Bytes of a row of hex digits, and of a page of them.
_HEX_ROW: Final = 16
_HEX_PAGE: Final = 16 * 256
#: Lines up to which everything is unfolded, and levels that are unfolded in longer ones.
_UNFOLDED_LINES: Final = 200
_UNFOLDED_LEVELS: Final = 3
#: Levels that can be folded: a browser nests elements only so deep.
MAX_FOLDS: Final = 20
#: Ways to show a body, and how they are called.
VIEWS: Final = {
    "pretty": "Pretty",
    "raw": "Raw",
    "hex": "Hex",
    "headers": "Headers",
    "sql": "SQL",
}


@dataclass(frozen=True)
class FaultPlace:
    """Why a body is no JSON, and where."""

    line: int
    column: int
    expected: str
    before: str
    behind: str


@dataclass
class Facts:
    """All that the page of a message shows."""

    message: StoredMessage | Letter
    body: bytes
    is_text: bool
    view: str
    meta: Mapping[str, Any]
    text: str = ""
    is_cut: bool = False
    lines: list[JsonLine] = field(default_factory=list)
    fault: FaultPlace | None = None
    hex_rows: list[tuple[str, str, str]] = field(default_factory=list)
    hex_begin: int = 0
    newer: str | None = None
    older: str | None = None

    @property
    def letter(self) -> Letter | None:
        """The dead letter that it is; None for a stored message."""
        return self.message if isinstance(self.message, Letter) else None

    @property
    def kind(self) -> str:
        """What the body is, in a word."""
        if not self.is_text:
            return "binary"
        return "JSON" if self.lines else "text"

    @property
    def hex_end(self) -> int:
        """Where the next page of hex digits begins."""
        return self.hex_begin + _HEX_PAGE

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers that were kept of the request."""
        headers = self.meta.get("headers")
        return headers if isinstance(headers, dict) else {}

    def is_unfolded(self, line: JsonLine) -> bool:
        """Whether what is inside of a line is shown at first."""
        return len(self.lines) <= _UNFOLDED_LINES or line.depth < _UNFOLDED_LEVELS


def find_message(parts: ConsoleParts, message_id: str) -> StoredMessage | Letter:
    """Return the message, or the newest dead letter with its id, if it may be read.

    Raises PageError (404) where there is none.
    """
    if is_id(message_id):
        row = parts.reader.message(message_id)
        if row is not None and principal().may(Right.READ, row.topic):
            return row
        seqs = parts.dead_letters.of_message(message_id, patterns())
        if seqs and (letter := parts.dead_letters.find(seqs[-1])):
            return letter
    raise PageError(
        404,
        "No message with this id is stored, or not yet: one that was just sent is a row within "
        "milliseconds. Retention may have deleted an old one.",
    )


def facts_of(
    parts: ConsoleParts, message: StoredMessage | Letter, view: str, begin: int = 0
) -> Facts:
    """Return the facts of a message, with its body as `view` wants it. Raises StoreError."""
    if isinstance(message, Letter):
        body = message.body
        if body is None:
            body = parts.dead_letters.body(message.seq) or b""
        is_text = _is_text(body)
    else:
        body, is_text = message.body, bool(message.text)
    if view not in VIEWS:
        view = "pretty" if is_text else "hex"
    facts = Facts(message, body, is_text, view, meta_members(message.meta))
    if view == "pretty" and is_text:
        _lay_out(facts)
    elif view == "raw" or (view == "pretty" and not is_text):
        _show_raw(facts)
    elif view == "hex":
        _show_hex(facts, begin)
    if isinstance(message, StoredMessage):
        facts.newer = _neighbour(parts, Window(message.topic, after=message.seq))
        facts.older = _neighbour(parts, Window(message.topic, before=message.seq))
    return facts


def _neighbour(parts: ConsoleParts, window: Window) -> str | None:
    rows = parts.reader.page(window, 1).rows
    return rows[0].id if rows else None


def _is_text(body: bytes) -> bool:
    try:
        return "\0" not in body.decode()
    except UnicodeDecodeError:
        return False


def meta_members(text: str | None) -> Mapping[str, Any]:
    """Return what a message's meta says, by name; nothing where someone broke it by SQL."""
    try:
        meta = orjson.loads(text) if text else {}
    except ValueError:
        meta = {}
    return meta if isinstance(meta, dict) else {}


def _show_raw(facts: Facts) -> None:
    facts.text = facts.body[:SHOWN].decode(errors="replace")
    facts.is_cut = len(facts.body) > SHOWN


def _lay_out(facts: Facts) -> None:
    """Lay a text out as JSON if it is any; else show it as it is."""
    if len(facts.body) > _MOST_LAID_OUT:
        _show_raw(facts)
        return
    text = facts.body.decode(errors="replace")
    try:
        facts.lines = json_lines(text)
    except TooManyLines:
        _show_raw(facts)
    except JsonFaultError as fault:
        _show_raw(facts)
        if text.lstrip()[:1] in ("{", "[") and fault.place <= SHOWN and not facts.is_cut:
            before = text[: fault.place]
            facts.fault = FaultPlace(
                before.count("\n") + 1,
                fault.place - before.rfind("\n"),
                fault.expected,
                before,
                text[fault.place :],
            )


def _show_hex(facts: Facts, begin: int) -> None:
    facts.hex_begin = begin = max(0, min(begin, len(facts.body)) // _HEX_ROW * _HEX_ROW)
    for place in range(begin, min(begin + _HEX_PAGE, len(facts.body)), _HEX_ROW):
        piece = facts.body[place : place + _HEX_ROW]
        signs = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        facts.hex_rows.append((f"{place:08x}", piece.hex(" "), signs))
