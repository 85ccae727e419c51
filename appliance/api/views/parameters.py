"""Query parameters of the views: each is known, comes once, and has a valid value.

Pure. Takes a mapping of lists; raises InputError (a 400) with words that name the parameter.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from appliance.errors import InputError
from appliance.model import cursors, moments
from appliance.model.conditions import Condition, parse_condition
from appliance.model.search_words import SearchWords, parse_words

KindT = TypeVar("KindT", bound=str)

# What the console reads in the same way.
moment = moments.moment
seq_cursor, parse_seq_cursor = cursors.seq_cursor, cursors.parse_seq_cursor
topic_cursor, parse_topic_cursor = cursors.topic_cursor, cursors.parse_topic_cursor

#: Rows on a page by default, and at most.
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
#: Rows that `limit` can ask of an export at most.
MAX_EXPORT: Final = 10**12

#: Topics and conditions of one request.
_MOST_TOPICS: Final = 100
_MOST_CONDITIONS: Final = 20
_TOPICS: Final = re.compile(r"[a-z0-9*][a-z0-9._*-]{0,99}", re.ASCII)


def read(
    query: Mapping[str, Sequence[str]], names: Sequence[str], repeated: Sequence[str] = ()
) -> dict[str, str]:
    """Return the one value of each parameter; those in `repeated` are checked by name only.

    Raises InputError for a parameter that is neither in `names` nor in `repeated`, or comes several
    times and must not.
    """
    for name, values in query.items():
        if name not in names and name not in repeated:
            takes = f"takes {', '.join([*names, *repeated])}" if names else "takes none"
            raise InputError(f"unknown query parameter {name[:50]!r}; this address {takes}")
        if len(values) > 1 and name not in repeated:
            raise InputError(f"{name}: expected once, came {len(values)} times")
    return {name: values[0] for name, values in query.items() if name in names}


def page_limit(text: str | None) -> int:
    """Return how many rows a page has at most; DEFAULT_LIMIT if the parameter is absent."""
    return DEFAULT_LIMIT if text is None else _limit(text, MAX_LIMIT)


def export_limit(text: str | None) -> int | None:
    """Return how many rows an export has at most; None (no limit) if the parameter is absent."""
    return None if text is None else _limit(text, MAX_EXPORT)


def choice(name: str, text: str | None, words: Sequence[str]) -> str:
    """Return one of `words`; the first if the parameter is absent."""
    if text is None:
        return words[0]
    if text not in words:
        raise InputError(f"{name}: expected one of {', '.join(words)}")
    return text


def topics(text: str | None) -> tuple[str, ...] | None:
    """Return names and patterns of topics (`orders,eu.*`); None if the parameter is absent."""
    if text is None:
        return None
    names = tuple(text.split(","))
    if len(names) > _MOST_TOPICS or not all(_TOPICS.fullmatch(name) for name in names):
        raise InputError(
            f"topic: expected up to {_MOST_TOPICS} topics with commas between them; * is any "
            "characters, as in orders.*"
        )
    return names


def search_words(text: str | None) -> SearchWords | None:
    """Return a full-text search; None if nothing is searched for. Any text is one."""
    return None if text is None else parse_words(text)


def where(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Return conditions on JSON bodies, one for each time that the parameter came."""
    if len(texts) > _MOST_CONDITIONS:
        raise InputError(f"where: expected {_MOST_CONDITIONS} times at most")
    try:
        return tuple(map(parse_condition, texts))
    except ValueError as error:
        raise InputError(f"where: {error}") from error


def kind(text: str | None, words: Sequence[KindT]) -> KindT | None:
    """Return the one of `words` that a text is; None if the parameter is absent."""
    if text is None:
        return None
    for word in words:
        if word == text:
            return word
    raise InputError(f"kind: expected one of {', '.join(words)}")


def for_excel(form: str, text: str | None) -> bool:
    """Whether an export is for Excel: `for=excel`, which only a CSV can be."""
    if text is not None and form != "csv":
        raise InputError("for: needs format=csv")
    return choice("for", text, ("any", "excel")) == "excel"


def _limit(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= most:
        raise InputError(f"limit: expected a whole number from 1 to {most}")
    return int(text)
