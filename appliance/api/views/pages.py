"""The cursors of a page: where the next page begins, and where to read later rows."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from flask import request

from appliance.api.views import parameters
from appliance.store.filters import Found
from appliance.store.rows import Span

#: Query parameters; one that comes several times has all its values.
Query = Mapping[str, str | Sequence[str]]


def cursors(
    seqs: Sequence[int], *, more: bool, after: int | None, query: Query
) -> dict[str, str | None]:
    """Return `next`, `next_url` and `newest` of a page whose rows have these `seq`, in order.

    `next` continues in the page's own direction (forward with `after`, else backward) and is None
    where there is nothing more. `newest` is the value of `after` that returns rows stored later.
    """
    following = parameters.seq_cursor(seqs[-1]) if more else None
    newest = max(seqs, default=after)
    direction = "before" if after is None else "after"
    return {
        "next": following,
        "next_url": url({**query, direction: following}) if following else None,
        "newest": None if newest is None else parameters.seq_cursor(newest),
    }


def of_search(found: Found, span: Span, query: Query) -> dict[str, object]:
    """Return the members of a page that a search found, beside its messages.

    `more` says that there can be more; `complete` is false where the search ended before its page
    was full. `newest` is the value of `after` that returns what is stored later, and nothing twice.
    """
    following = parameters.seq_cursor(found.reached) if found.more else None
    direction = "before" if span.after is None else "after"
    if span.after is not None and found.more:
        newest = found.reached
    elif span.after is None and span.before is not None:
        newest = found.rows[0].seq if found.rows else span.before - 1
    else:
        newest = max(found.newest, span.after or 0)
    members: dict[str, object] = {
        "more": found.more,
        "complete": found.is_complete,
        "next": following,
        "next_url": url({**query, direction: following}) if following else None,
        "newest": parameters.seq_cursor(newest),
    }
    if not found.is_complete:
        members["note"] = "the search ended before it was done; next_url goes on where it ended"
    return members


def url(query: Query) -> str:
    """Return this address with another query; without a host, so that it holds behind a proxy."""
    return f"{address(request.path)}?{urlencode(query, doseq=True)}"


def address(path: str) -> str:
    """Return the address of a path of ours, as a client reaches it that is behind a proxy too."""
    return request.script_root + path
