"""JSON as lines to be shown, made of the very tokens that came. Pure.

Nothing is parsed into values: a number keeps its digits, however many, and a key that comes twice
is there twice, and marked. It takes no recursion, so that no depth is too much.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Lines that are made at most.
MAX_LINES: Final = 5000
#: Steps of a path that is shown.
_MAX_PATH: Final = 200

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_TOKEN: Final = re.compile(
    r'(?P<text>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])"
    r"|(?P<word>true|false|null)(?!\w)"
    r"|(?P<sign>[{}\[\]:,])",
    re.ASCII,
)
_PLAIN_KEY: Final = re.compile(r'"[A-Za-z_$][\w$-]*"', re.ASCII)


class JsonFaultError(ValueError):
    """A text is no JSON from this place on."""

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(expected)
        self.place = place
        self.expected = expected


class TooManyLines(Exception):  # noqa: N818  # nothing is wrong
    """A text would become more lines than are shown."""


class Token(NamedTuple):
    """A piece of a line: its text as it came, and what it is (a class of the style sheet)."""

    text: str
    kind: str


@dataclass
class JsonLine:
    """A line: its depth, and its tokens.

    `opens` is true where the lines behind it, up to one that `closes`, are inside of it; then
    `inside` counts what is in there. `path` leads to the value, and `condition` finds messages that
    have it; both are empty where they can't be written.
    """

    depth: int
    tokens: list[Token] = field(default_factory=list)
    opens: bool = False
    closes: bool = False
    inside: int = 0
    path: str = ""
    condition: str = ""


class _Level:
    """An object or an array that is open: its line, its place in the path, its keys."""

    __slots__ = ("count", "is_object", "keys", "line", "path")

    def __init__(self, line: JsonLine, path: str, *, is_object: bool) -> None:
        self.line = line
        self.path = path
        self.is_object = is_object
        self.keys: set[str] = set()
        self.count = 0


def json_lines(text: str) -> list[JsonLine]:
    """Return a JSON text as lines. Raises JsonFaultError where it is none, TooManyLines."""
    return _Layout(text).run()


class _Layout:
    """Walks through the tokens once."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._end = len(text)
        self._lines: list[JsonLine] = []
        self._levels: list[_Level] = []
        self._place = 0

    def run(self) -> list[JsonLine]:
        line = self._new_line("$")
        self._value(line, *self._next("a value"), path="$")
        while self._levels:
            self._member(self._levels[-1])
        place, _, text = next(self._tokens)
        if text:
            raise JsonFaultError(place, "nothing more")
        return self._lines

    def _member(self, level: _Level) -> None:
        """Read what comes in an open object or array: a member, or its end."""
        closing = "}" if level.is_object else "]"
        begin = "," if level.count else "a value"
        place, kind, text = self._next(f"{begin} or {closing}")
        if text == closing and not level.count:
            self._close(level, closing)
            return
        if level.count:
            if text == closing:
                self._close(level, closing)
                return
            if text != ",":
                raise JsonFaultError(place, f"{begin} or {closing}")
            self._lines[-1].tokens.append(Token(",", "sign"))
            place, kind, text = self._next("a value")
        level.count += 1
        if level.is_object:
            line, path = self._key(level, place, kind, text)
            place, kind, text = self._next("a value")
        else:
            path = _below(level.path, f"[{level.count - 1}]")
            line = self._new_line(path)
        self._value(line, place, kind, text, path)

    def _key(self, level: _Level, place: int, kind: str, text: str) -> tuple[JsonLine, str]:
        if kind != "text":
            raise JsonFaultError(place, "a key in quotes")
        path = _below(level.path, f".{text[1:-1]}" if _PLAIN_KEY.fullmatch(text) else f"[{text}]")
        line = self._new_line(path if "\\" not in text else "")
        line.tokens.append(Token(text, "key"))
        if text in level.keys:
            line.tokens.append(Token("again", "again"))
        level.keys.add(text)
        place, _, colon = self._next(":")
        if colon != ":":
            raise JsonFaultError(place, ":")
        line.tokens.append(Token(": ", "sign"))
        return line, path

    def _value(self, line: JsonLine, place: int, kind: str, text: str, path: str) -> None:
        if text in ("{", "["):
            line.tokens.append(Token(text, "sign"))
            line.opens = True
            self._levels.append(_Level(line, path, is_object=text == "{"))
        elif kind in ("text", "number", "word"):
            line.tokens.append(Token(text, kind))
            if line.path and line.path != "$":
                line.condition = f"{line.path.removeprefix('$').removeprefix('.')}={text}"
        else:
            raise JsonFaultError(place, "a value")

    def _close(self, level: _Level, closing: str) -> None:
        self._levels.pop()
        level.line.inside = level.count
        if level.count:
            line = self._new_line("")
            line.closes = True
            line.tokens.append(Token(closing, "sign"))
        else:  # on one line
            level.line.opens = False
            level.line.tokens.append(Token(closing, "sign"))

    def _new_line(self, path: str) -> JsonLine:
        if len(self._lines) >= MAX_LINES:
            raise TooManyLines
        line = JsonLine(len(self._levels), path=path if len(path) <= _MAX_PATH else "")
        self._lines.append(line)
        return line

    def _next(self, expected: str) -> tuple[int, str, str]:
        place, kind, text = next(self._tokens)
        if not text:
            raise JsonFaultError(place, expected)
        return place, kind, text


def _below(path: str, step: str) -> str:
    """Return a longer path; one that is too long grows no more."""
    return path if len(path) > _MAX_PATH else path + step


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield place, kind and text of each token, and an empty one at the end or at a fault."""
    place = 0
    while True:
        space = _SPACE.match(text, place)
        place = space.end() if space else place
        match = _TOKEN.match(text, place)
        if not match:
            if place < len(text):
                raise JsonFaultError(place, "JSON")
            yield place, "", ""
            continue
        yield place, match.lastgroup or "", match[0]
        place = match.end()
