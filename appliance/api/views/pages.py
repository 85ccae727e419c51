"""One page of many: its members, where the next one begins, and what to ask for later."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from flask import request

from appliance.api.views import parameters


def cursors(
    seqs: Sequence[int], *, more: bool, after: int | None, given: Mapping[str, str]
) -> dict[str, str | None]:
    """Return `next`, `next_url` and `newest` of a page whose rows have these `seq`, in order.

    `next` goes on in the page's own direction (that of `after`, where it was given) and is null
    where nothing more is there; `newest` is the place to ask `after` for what is stored later.
    """
    following = parameters.seq_cursor(seqs[-1]) if more else None
    newest = max(seqs, default=after)
    direction = "before" if after is None else "after"
    return {
        "next": following,
        "next_url": url({**given, direction: following}) if following else None,
        "newest": None if newest is None else parameters.seq_cursor(newest),
    }


def url(parameters: Mapping[str, str | None]) -> str:
    """Return this address with other parameters; relative, so that it holds behind a proxy."""
    return f"{request.path}?{urlencode({k: v for k, v in parameters.items() if v is not None})}"
