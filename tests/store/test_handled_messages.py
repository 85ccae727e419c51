"""Messages that wait for handlers: they wait, are handed out, and are settled exactly once."""

from dataclasses import replace

import pytest

from appliance.model.contents import DeadEnvelope, DelayedEnvelope, DueMessages
from appliance.model.handler_outcomes import (
    HandlerOutcome,
    HandlerOutcomes,
    ReleasedMessages,
    result_ids,
)
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, mixed, pack, single
from appliance.store import open_store
from appliance.store.rows import Choice

IDS = IdSource()
THEN = "2026-01-01T00:00:00.000Z"
FUNCTION = "shop:check"
MANY = 2**20


@pytest.fixture
def config(load):
    return load(min_free_bytes="0", handlers=f"orders={FUNCTION}, bulk.*=shop:bulk")


@pytest.fixture
def handling(store):
    yield store.handling
    store.handling.close()


def put(store, *contents):
    writer = store.open_writer()
    try:
        writer.store(contents)
    finally:
        writer.close()


def order(body=b"one", name=None, topic="orders", **of):
    return single(topic, name or IDS.new(), THEN, body, **of)


def said(*bodies, topic="orders"):
    return [(topic, Message("", "", body, "text/x", None)) for body in bodies]


def settle(store, holder, seq, results, **of):
    put(store, HandlerOutcomes(holder, [HandlerOutcome(seq, results, **of)]))


def rows(store):
    return [(topic, message_id, body) for topic, message_id, body in store.rows()]


def letters(store):
    return store.dead_letters.page(Choice(), 100).rows


def test_a_message_with_a_handler_waits_for_it_and_one_without_is_a_row_at_once(store, handling):
    put(store, order(), order(topic="plain"))
    assert [row[0] for row in rows(store)] == ["plain"]
    assert [each.body for each in handling.take(FUNCTION, "me", 10, MANY)] == ["one"]


def test_messages_of_one_envelope_go_each_its_own_way(store, handling):
    messages = [
        ("orders", Message(IDS.new(), THEN, "a")),
        ("plain", Message(IDS.new(), THEN, "b")),
        ("bulk.x", Message(IDS.new(), THEN, "c")),
        ("plain", Message(IDS.new(), THEN, b"\0d", "text/x", '{"k":1}')),
    ]
    envelope = mixed(messages, 10)
    put(store, envelope)
    put(store, envelope)  # the broker delivers it again
    assert [(topic, body) for topic, _, body in rows(store)] == [("plain", "b"), ("plain", b"\0d")]
    assert [each.body for each in handling.take(FUNCTION, "me", 10, MANY)] == ["a"]
    assert [each.body for each in handling.take("shop:bulk", "me", 10, MANY)] == ["c"]
    assert letters(store) == []


@pytest.mark.parametrize("envelope", [
    batch("orders", IDS.prefix(), THEN, [b"1", b"2", b"3"]),
    pack("orders", [Message(IDS.new(), THEN, str(n)) for n in (1, 2, 3)], 3),
], ids=["lines", "pack"])  # fmt: skip
def test_every_message_of_a_batch_waits_once_however_often_it_comes(store, handling, envelope):
    put(store, envelope, envelope)
    put(store, envelope)
    taken = handling.take(FUNCTION, "me", 10, MANY)
    assert [each.body for each in taken] == ["1", "2", "3"]


def test_a_single_result_keeps_the_id_and_the_time_of_its_input(store, handling):
    put(store, order(name="00000000-0000-7000-8000-000000000000", meta='{"via":"http"}'))
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, said("ONE"))
    message = store.reader.message("00000000-0000-7000-8000-000000000000")
    assert (message.body, message.received_at, message.content_type) == (b"ONE", THEN, "text/x")
    assert '"handler":"shop:check"' in message.meta
    assert '"via":"http"' in message.meta
    assert handling.handled(message.id)[3:] == ("handled", 1)


def test_several_results_have_ids_that_follow_from_their_inputs(store, handling):
    content = order()
    put(store, content)
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, [*said("a"), *said("b", topic="elsewhere")])
    ids = result_ids(content.id, 2)
    assert rows(store) == [("orders", ids[0], "a"), ("elsewhere", ids[1], "b")]
    assert content.id not in ids
    assert {each.topic: each.messages for each in store.reader.topics()} == {
        "elsewhere": 1, "orders": 1,
    }  # fmt: skip


@pytest.mark.parametrize("results", [said("changed"), said("a", "b"), [], None])
def test_an_input_that_comes_again_after_it_was_handled_is_nothing_new(store, handling, results):
    content = order()
    put(store, content)
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, results, error="raised")
    before, dead = rows(store), len(letters(store))
    put(store, content)
    put(store, DeadEnvelope(content, "broker-expired", "given up"))
    assert handling.take(FUNCTION, "me", 10, MANY) == []
    assert rows(store) == before
    assert len(letters(store)) == dead == (results is None)


def test_an_input_with_a_known_id_and_another_body_is_a_conflict(store, handling):
    content = order()
    put(store, content)
    put(store, order(b"two", content.id))
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, [])
    put(store, order(b"three", content.id))
    assert [(each.reason, each.body) for each in letters(store)] == [
        ("conflict", b"three"), ("conflict", b"two"),
    ]  # fmt: skip


def test_an_event_that_is_sent_again_with_another_body_is_no_conflict(store, handling):
    meta = '{"event_id":"e1"}'
    content = order(meta=meta)
    put(store, content)
    put(store, order(b"another try", content.id, meta=meta))
    assert letters(store) == []


def test_a_process_that_has_a_message_no_more_stores_nothing_of_it(store, handling):
    put(store, order())
    (taken,) = handling.take(FUNCTION, "dead", 10, MANY)
    assert handling.take(FUNCTION, "other", 10, MANY) == []
    assert handling.recover(lambda: ["other"]) == 1
    assert handling.recover(lambda: ["other"]) == 0
    (again,) = handling.take(FUNCTION, "other", 10, MANY)
    assert again.attempts == 1
    settle(store, "dead", taken.seq, said("late"))
    settle(store, "other", taken.seq, said("in time"))
    settle(store, "other", taken.seq, said("twice"))
    settle(store, "dead", taken.seq, None, error="later still")
    assert [body for _, _, body in rows(store)] == ["in time"]
    assert letters(store) == []


def test_a_message_that_failed_before_is_handed_out_alone(store, handling):
    put(store, *[order(str(n).encode()) for n in range(3)])
    handling.take(FUNCTION, "gone", 1, MANY)
    handling.recover(list)
    taken = [handling.take(FUNCTION, "me", 10, MANY) for _ in range(3)]
    assert [[each.body for each in part] for part in taken] == [["0"], ["1", "2"], []]


def test_a_failure_that_is_tried_again_waits_until_then(store, handling):
    put(store, order())
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, None, error="no", attempts=1, retry_at=2**50)
    assert handling.take(FUNCTION, "me", 10, MANY) == []
    (state,) = handling.backlog()
    assert state == (FUNCTION, 1, 1, THEN)
    put(store, order())
    (other,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", other.seq, None, error="no", attempts=1, retry_at=1)
    (again,) = handling.take(FUNCTION, "me", 10, MANY)
    assert (again.seq, again.attempts, again.error) == (other.seq, 1, "no")


def test_a_failure_for_good_is_one_dead_letter_with_the_input_as_it_came(store, handling):
    content = order(b"\0raw", content_type="image/x", meta='{"via":"http"}')
    put(store, content)
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, None, error="Traceback ...")
    (letter,) = letters(store)
    assert (letter.id, letter.body, letter.reason, letter.error, letter.content_type) == (
        content.id, b"\0raw", "handler-failed", "Traceback ...", "image/x",
    )  # fmt: skip
    assert rows(store) == []
    assert handling.handled(content.id).outcome == "dead"


def test_messages_are_handed_out_within_the_bounds_and_put_back_unharmed(store, handling):
    put(store, *[order(bytes([65 + n]) * 100) for n in range(5)])
    taken = handling.take(FUNCTION, "me", 10, 250)
    assert [each.body[0] for each in taken] == ["A", "B"]
    handling.put_back("other")
    assert handling.take(FUNCTION, "other", 1, MANY)[0].body[0] == "C"
    handling.put_back("other")
    handling.put_back("me")
    again = handling.take(FUNCTION, "me", 3, MANY)
    assert [(each.body[0], each.attempts) for each in again] == [("A", 0), ("B", 0), ("C", 0)]


def test_messages_whose_handler_was_taken_away_become_rows_as_they_came(store, load):
    put(store, order(b"a"), order(b"b", topic="bulk.x"), order(b"c"))
    store.handling.close()
    other = open_store(load(min_free_bytes="0", handlers="orders=new:one"))
    assert other.handling.has_strays()
    put(other, ReleasedMessages())
    assert [(topic, body) for topic, _, body in rows(other)] == [("bulk.x", "b")]
    assert not other.handling.has_strays()
    assert [each.body for each in other.handling.take("new:one", "me", 9, MANY)] == ["a", "c"]
    assert other.handling.take(FUNCTION, "me", 9, MANY) == []
    other.handling.close()
    other.reader.close()


@pytest.mark.parametrize("results", [said("changed"), said("a", "b"), []])
def test_an_input_that_was_handled_is_known_when_its_topic_has_no_handler_any_more(
    store, handling, load, results
):
    content = order()
    put(store, content)
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, results)
    before = rows(store)
    other = open_store(load(min_free_bytes="0"))
    put(other, content, order(b"new"))
    assert rows(other) == [*before, ("orders", rows(other)[-1][1], "new")]
    assert letters(other) == []
    other.reader.close()


def test_a_handled_message_is_forgotten_after_its_time(store, handling):
    content = order()
    put(store, content)
    (taken,) = handling.take(FUNCTION, "me", 10, MANY)
    settle(store, "me", taken.seq, [])
    assert not handling.forget("2026-01-01T00:00:00.000Z", 10)
    assert handling.forget("2999-01-01T00:00:00.000Z", 10)
    assert not handling.forget("2999-01-01T00:00:00.000Z", 10)
    assert handling.handled(content.id) is None


@pytest.mark.parametrize("action", ["ABORT", "ROLLBACK", "FAIL", "IGNORE"])
def test_a_result_that_the_database_refuses_is_a_dead_letter_and_takes_no_other_along(
    store, handling, action, refuse_bodies
):
    refuse_bodies("bad", action)
    first, second = order(b"1"), order(b"2")
    put(store, first, second)
    one, two = handling.take(FUNCTION, "me", 10, MANY)
    put(
        store,
        HandlerOutcomes(
            "me",
            [HandlerOutcome(one.seq, said("good", "bad")), HandlerOutcome(two.seq, said("fine"))],
        ),
    )
    assert [body for _, _, body in rows(store)] == ["good", "fine"]
    assert [(each.id, each.reason, each.body) for each in letters(store)] == [
        (result_ids(first.id, 2)[1], "unstorable", b"bad")
    ]
    assert handling.backlog() == []


def test_a_delayed_message_goes_to_its_handler_when_it_is_due(store, handling):
    content = order(b"later")
    put(store, DelayedEnvelope(replace(content, due_at="2026-01-02T00:00:00.000Z")))
    assert handling.take(FUNCTION, "me", 10, MANY) == []
    put(store, DueMessages("2026-01-02T00:00:00.000Z"))
    assert [each.id for each in handling.take(FUNCTION, "me", 10, MANY)] == [content.id]
    assert rows(store) == []


def test_a_waiting_message_says_how_it_stands(store, handling):
    content = order(b"four")
    put(store, content)
    state = handling.waiting(content.id)
    assert (state.topic, state.function, state.attempts, state.bytes) == ("orders", FUNCTION, 0, 4)
    assert handling.waiting(IDS.new()) is None
