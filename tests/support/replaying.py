"""Replays made through the store, as the API makes them."""

from store_contents import IDS

from appliance.model import timestamps
from appliance.store.access_rows import Actor, Deed
from appliance.store.replay_rows import ReplayRow, ReplaySelection

BY = Actor("ann", "::1")
REPLAY_DEED = Deed(BY, "replay-create", "again")


def asked(store, selection=None, *, target="again", endpoint=None):
    """Make a replay of a selection (None: of everything), to a topic or to an endpoint."""
    selection = selection or ReplaySelection()
    choice, now = store.replays.choose(selection), timestamps.now()
    row = ReplayRow(
        id=IDS.new(), target=target, endpoint=endpoint, selection=selection, after=choice.after,
        until=choice.until, cursor=choice.after, messages=choice.messages, created_at=now,
        changed_at=now, by=BY,
    )  # fmt: skip
    return store.replays.create(row, choice, REPLAY_DEED)
