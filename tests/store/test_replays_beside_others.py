"""Replays into topics with a handler, and of messages with an end."""

from dataclasses import replace

import pytest
from replaying import asked
from store_contents import IDS

from appliance.model.wire import single
from appliance.replay_copier import copies
from appliance.store.replay_rows import DONE, ReplaySelection

THEN = "2026-01-01T00:00:00.000Z"
OVER = "2026-01-02T00:00:00.000Z"
FAR = "2099-01-01T00:00:00.000Z"


@pytest.fixture
def config(load):
    return load(min_free_bytes="0", handlers="orders=shop:check")


def put(store, *contents):
    writer = store.open_writer()
    try:
        writer.store(contents)
    finally:
        writer.close()


def ending(body, at):
    envelope = single("old", IDS.new(), THEN, body, None, f'{{"expires_at":"{at}"}}')
    return replace(envelope, expires_at=at)


def replayed(store, into, **selection):
    row = asked(store, ReplaySelection(**selection), target=into)
    work = store.replays.next_copy()
    put(store, copies(work, store.replays.part(work, work.cursor, 100, 2**20)))
    return store.replays.find(row.id)


def test_copies_into_a_topic_with_a_handler_wait_for_it(store, by_hand):
    put(store, single("old", IDS.new(), THEN, b"one"), single("old", IDS.new(), THEN, b"two"))
    found = replayed(store, "orders", topics=("old",))
    assert (found.state, found.sent) == (DONE, 2)
    assert [topic for topic, *_ in store.rows()] == ["old", "old"]
    waiting = by_hand("SELECT topic, body, function FROM handler_messages ORDER BY seq")
    assert waiting == [("orders", "one", "shop:check"), ("orders", "two", "shop:check")]


@pytest.mark.parametrize(
    ("selection", "gone"),
    [({"topics": ("old",)}, 0), ({"sql": "SELECT seq FROM messages"}, 1)],
)
def test_a_message_that_is_over_is_not_sent_again_and_a_copy_ends_with_its_source(
    store, selection, gone, by_hand
):
    put(store, ending(b"over", OVER), ending(b"lasts", FAR))
    found = replayed(store, "again", **selection)
    assert (found.state, found.sent, found.gone) == (DONE, 1, gone)
    assert by_hand("SELECT body FROM messages WHERE topic = 'again'") == [("lasts",)]
    ends = "SELECT topic, expires_at FROM expirations JOIN messages USING (seq) ORDER BY seq"
    assert by_hand(ends) == [("old", OVER), ("old", FAR), ("again", FAR)]
