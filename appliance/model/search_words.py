"""A full-text search as people type it, and where its words are in a text. Pure.

Letters and digits belong to a word, case and accents don't count: much as SQLite's tokenizer
unicode61 has it, but with the tables of this Python, so that a search in the index and one in the
messages themselves find the same. Any text that a person types is a valid search.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

#: Characters of a body that are searched, from its beginning.
SEARCHED_CHARS: Final = 256 * 2**10
#: Characters of a body from which on it is not read as JSON: escapes in it stay as they are.
LONGEST_JSON: Final = 4 * 2**20
#: Terms of a search, and words of one term; the rest of what was typed is left out.
_MOST_TERMS: Final = 32
_MOST_WORDS: Final = 64
#: Characters of a word that count.
LONGEST_WORD: Final = 200
#: Characters of an excerpt, and of what it shows before the first hit.
_EXCERPT: Final = 200
_BEFORE: Final = 60

#: Marks that are part of the letter before them.
_MARKS: Final = "\u0300-\u036f"
_WORD: Final = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_BETWEEN: Final = re.compile(r"[\W_]+")
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)"?(\*?)|(\S+))')
_ESCAPE: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)


class Term(NamedTuple):
    """A word or a phrase: words in a row. `is_prefix`: the last one is the beginning of a word.

    A term without a letter or digit has no `words`; it is looked for as it is (`literal`).
    """

    words: tuple[str, ...]
    literal: str
    is_prefix: bool
    is_excluded: bool


class ExcerptPart(NamedTuple):
    """A part of an excerpt, and whether it is a hit."""

    text: str
    is_hit: bool


@dataclass(frozen=True, slots=True)
class SearchWords:
    """A search: every wanted term must be in the text, and no excluded one."""

    terms: tuple[Term, ...]

    @property
    def wanted(self) -> tuple[Term, ...]:
        """The terms that must be there."""
        return tuple(term for term in self.terms if not term.is_excluded)

    def matches(self, text: str) -> bool:
        """Whether a text, as `searchable` returns it, has what is searched."""
        words = f" {plain_words(text)} "
        return all(_is_in(term, words, text) != term.is_excluded for term in self.terms)

    def excerpt(self, text: str) -> list[ExcerptPart]:
        """Return the piece of a text around its first hit, cut at the hits.

        The parts are plain text: whoever shows them as HTML must escape each.
        """
        spans = self._spans(text)
        first = next(spans, None)
        begin = 0 if first is None else max(0, first[0] - _BEFORE)
        end = begin + _EXCERPT
        parts: list[ExcerptPart] = []
        place = begin
        while first is not None and first[0] < end:
            start, stop = max(first[0], place), min(first[1], end)
            if start > place:
                parts.append(ExcerptPart(text[place:start], is_hit=False))
            if stop > start:
                parts.append(ExcerptPart(text[start:stop], is_hit=True))
            place = max(place, stop)
            first = next(spans, None)
        if text[place:end]:
            parts.append(ExcerptPart(text[place:end], is_hit=False))
        if begin:
            parts.insert(0, ExcerptPart("…", is_hit=False))
        if end < len(text):
            parts.append(ExcerptPart("…", is_hit=False))
        return parts

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield beginning and end of each hit in turn; hits of several terms can overlap."""
        terms = [term for term in self.wanted if term.words]
        longest = max((len(term.words) for term in terms), default=0)
        literals = [term.literal for term in self.wanted if not term.words]
        places = sorted(
            (match.start(), match.end())
            for literal in literals
            for match in re.finditer(re.escape(literal), text)
        )
        recent: list[tuple[str, int, int]] = []
        for match in _WORD.finditer(text) if terms else ():
            recent = [*recent[1 - longest :], (fold(match[0]), match.start(), match.end())]
            if longest == 1:
                recent = recent[-1:]
            begins = [
                recent[-len(term.words)][1]
                for term in terms
                if len(term.words) <= len(recent) and _ends(term, [each[0] for each in recent])
            ]
            while begins and places and places[0][0] < min(begins):
                yield places.pop(0)
            if begins:
                yield min(begins), match.end()
        yield from places


def parse_words(text: str) -> SearchWords | None:
    """Return the search that a text is; None where nothing is searched for.

    Words must all be there. `"in quotes"` they must be in a row; `-` in front: must not be there;
    `*` at the end: a word that begins so.
    """
    terms: list[Term] = []
    for minus, quoted, quoted_star, bare in _TERM.findall(text.replace("\0", " ")):
        typed = bare or quoted
        is_excluded = bool(minus)
        if bare.startswith("-"):  # `--verbose` is a word that someone looks for
            typed, is_excluded = minus + bare, False
        if not typed.strip():
            continue
        words = tuple(word[:LONGEST_WORD] for word in _WORD.findall(fold(typed))[:_MOST_WORDS])
        star = bool(quoted_star) or (bare.endswith("*") and len(bare) > 1)
        terms.append(Term(words, typed[:LONGEST_WORD], star and bool(words), is_excluded))
        if len(terms) == _MOST_TERMS:
            break
    return SearchWords(tuple(terms)) if terms else None


def searchable(body: str) -> str:
    r"""Return the text of a body in which words are searched.

    In a JSON body `\u00df` is the letter that it stands for, and `\n` no letter.
    """
    text = body[:SEARCHED_CHARS]
    if "\\" not in text or len(body) >= LONGEST_JSON or text.lstrip()[:1] not in ("{", "[", '"'):
        return text
    try:
        orjson.loads(body)
    except ValueError:
        return text
    return _ESCAPE.sub(_unescaped, text)


def plain_words(text: str) -> str:
    """Return the words of a text, folded, with a space between two."""
    return _BETWEEN.sub(" ", fold(text)).strip()


def fold(text: str) -> str:
    """Return a text in small letters without accents."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", text.lower())
    plain = re.sub(f"[{_MARKS}]", "", decomposed)
    return unicodedata.normalize("NFC", plain)


def _is_in(term: Term, words: str, text: str) -> bool:
    if not term.words:
        return term.literal in text
    return f" {' '.join(term.words)}" + ("" if term.is_prefix else " ") in words


def _ends(term: Term, words: list[str]) -> bool:
    """Whether the term's words are the last ones of `words`."""
    *before, last = term.words
    if words[-len(term.words) : -1] != before:
        return False
    return words[-1].startswith(last) if term.is_prefix else words[-1] == last


def _unescaped(match: re.Match[str]) -> str:
    escaped = match[0]
    if escaped[1] == "u":
        units = bytes.fromhex(escaped.replace("\\u", ""))
        return units.decode("utf-16-be", "replace").replace("\0", " ")
    return escaped[1] if escaped[1] in '"\\/' else " "
