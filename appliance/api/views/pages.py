"""The cursors of a page: where the next page begins, and where to read later rows."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from flask import request

from appliance.api.views import parameters


def cursors(
    seqs: Sequence[int], *, more: bool, after: int | None, query: Mapping[str, str]
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


def url(query: Mapping[str, str]) -> str:
    """Return this address with another query; without a host, so that it holds behind a proxy."""
    return f"{address(request.path)}?{urlencode(query)}"


def address(path: str) -> str:
    """Return the address of a path of ours, as a client reaches it that is behind a proxy too."""
    return request.script_root + path
