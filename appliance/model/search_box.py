"""The language of a search box: words, and conditions between them. Pure.

`straße "card declined" -test device:t-6 temp>30` is a search for words, and two conditions. Any
text is valid: what can't be read as a condition is a word, and a note says so.
"""

import re
from dataclasses import dataclass
from typing import Final

from appliance.model.conditions import Condition, parse_condition

#: Characters of a text that are read, and conditions of one search.
_LONGEST: Final = 10_000
_MOST_CONDITIONS: Final = 20
_NOTE_CHARS: Final = 40

#: A phrase; or a word, of which a part can be in quotes: `name:"Ann B"`.
_PIECE: Final = re.compile(r'-?"[^"]*"?\*?|(?:[^\s"]|"(?:[^"\\]|\\.)*"?)+')
#: A name, a sign, a value. A time (`12:30`) has no name, and an address (`https://...`) no value.
_CONDITION: Final = re.compile(
    r'(-?)(@?[^\W\d][^\s:=<>!~"]*|@?\$[^\s:=<>!~"]*|@?\[(?:[^\s"\]]|"[^"]*")*\][^\s:=<>!~"]*)'
    r"(:(?!//)(?:>=|<=|>|<)?|!=|>=|<=|=|>|<|~)(.+)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class BoxSearch:
    """A search as it was typed: words for `q`, conditions for `where`, notes for who typed it."""

    words: str
    conditions: tuple[Condition, ...]
    notes: tuple[str, ...]


def parse_box(text: str) -> BoxSearch:
    """Return the search that was typed into a box."""
    notes: list[str] = []
    if len(text) > _LONGEST:
        notes.append(f"only the first {_LONGEST:,} characters are looked for")
    words: list[str] = []
    conditions: list[Condition] = []
    for piece in _PIECE.findall(text[:_LONGEST]):
        match = _CONDITION.fullmatch(piece)
        if not match:
            words.append(piece)
            continue
        try:
            condition = _read(*match.groups())
        except ValueError as error:
            notes.append(_note(piece, str(error)))
            words.append(piece)
            continue
        if len(conditions) < _MOST_CONDITIONS:
            conditions.append(condition)
        else:
            notes.append(_note(piece, f"there can be {_MOST_CONDITIONS} conditions"))
            words.append(piece)
    return BoxSearch(" ".join(words), tuple(conditions), tuple(notes))


def _note(piece: str, reason: str) -> str:
    shown = piece if len(piece) <= _NOTE_CHARS else piece[:_NOTE_CHARS] + "…"
    return f"{shown} is looked for as a word: {reason}"


def _read(minus: str, path: str, sign: str, value: str) -> Condition:
    """Return a condition. Raises ValueError, in words, where it is none."""
    if sign == ":" and value == "*" and not minus:
        return parse_condition(f"{path} exists")
    sign = sign.removeprefix(":") or "="
    if minus:
        if sign != "=":
            raise ValueError("only name:value can have a minus in front")
        sign = "!="
    return parse_condition(f"{path}{sign}{value}")
