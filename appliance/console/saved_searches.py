"""Searches that a browser keeps under names of its user's: in a cookie. Pure.

So they need no script, as one's store in the browser would, and no table. The cookie could have
been written by another program on the machine's name: it is read as what a stranger sends, and
each search leads to a list of this console and nowhere else.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from appliance.errors import InputError
from appliance.model.topics import check_topic

#: Searches of one browser, and characters of a name, of a query and of the cookie: a browser keeps
#: none above 4,096.
MOST: Final = 20
LONGEST_NAME: Final = 60
_LONGEST_QUERY: Final = 1000
_LONGEST_COOKIE: Final = 3600
#: The parameters that make a search; the place in the list is none.
_PARAMETERS: Final = frozenset({"q", "topic", "since", "until", "kind", "where", "cols", "facet"})


class SavedSearch(NamedTuple):
    """A search: its name, its topic where it is of one topic's page, and its query."""

    name: str
    topic: str
    query: str


def searches_in(cookie: str) -> list[SavedSearch]:
    """Return the searches of a cookie; those that can't be read are left out."""
    if not cookie or len(cookie) > _LONGEST_COOKIE:
        return []
    try:
        data = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
        members: Any = json.loads(data)
    except (binascii.Error, ValueError, RecursionError):
        return []
    found = []
    for each in members[:MOST] if isinstance(members, list) else ():
        try:
            name, topic, query = each
            found.append(saved_search(name, topic, query))
        except (InputError, ValueError, TypeError, AttributeError):
            continue
    return found


def cookie_of(searches: Iterable[SavedSearch]) -> str:
    """Return the cookie that keeps searches."""
    data = json.dumps([list(each) for each in searches], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def saved_search(name: str, topic: str, query: str) -> SavedSearch:
    """Return a search with what belongs into it. Raises InputError, in words."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(f"a search needs a name of 1 to {LONGEST_NAME} characters")
    if topic:
        check_topic(topic)
    if len(query) > _LONGEST_QUERY:
        raise InputError("the search is too long to be kept")
    pairs = [pair for pair in parse_qsl(query.lstrip("?")) if pair[0] in _PARAMETERS]
    return SavedSearch(name, topic, urlencode(pairs))


def with_search(searches: Iterable[SavedSearch], new: SavedSearch) -> list[SavedSearch]:
    """Return the searches and a new one, which takes the place of one of the same name.

    Raises InputError where there is no room for it.
    """
    together = sorted(
        [*without_search(searches, new.name), new], key=lambda each: each.name.lower()
    )
    if len(together) > MOST:
        raise InputError(f"there are {MOST} saved searches, as many as there can be; forget one")
    if len(cookie_of(together)) > _LONGEST_COOKIE:
        raise InputError("there is no room for more in a cookie; forget a search")
    return together


def without_search(searches: Iterable[SavedSearch], name: str) -> list[SavedSearch]:
    """Return the searches but the one of this name."""
    return [each for each in searches if each.name != name]
