"""Delayed messages in a real database: they wait, become rows once, and can be cancelled."""

import json
import random

import pytest

from appliance.model.contents import DelayedEnvelope, DueMessages
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, pack, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.rows import Span

IDS = IdSource()
THEN = "2026-01-01T00:00:00.000Z"
DUE = "2026-01-02T00:00:00.000Z"
LATER = "2026-01-03T00:00:00.000Z"
DEED = Deed(Actor("administrator", "127.0.0.1"), "delayed-cancel", "")


@pytest.fixture
def delayed(store):
    return store.delayed


@pytest.fixture
def keep(writer):
    def keep(*contents):
        writer.store(contents)

    return keep


def later(envelope, due_at=DUE):
    object.__setattr__(envelope, "due_at", due_at)
    return DelayedEnvelope(envelope)


def one(body=b"hello", due_at=DUE, topic="t", **of):
    return later(single(topic, of.pop("name", IDS.new()), THEN, body, **of), due_at)


def test_a_delayed_message_is_no_row_before_it_is_due(keep, contents, delayed):
    keep(one())
    assert not delayed.is_any_due(THEN)
    keep(DueMessages(THEN))
    assert contents.bodies() == []
    assert delayed.count() == 1


@pytest.mark.parametrize("body", [b"hello", "gr\u00fc\u00df".encode(), b"\0\xff"])
def test_a_delayed_message_becomes_one_row_with_its_bytes_when_it_is_due(
    keep, contents, delayed, body
):
    content = one(body, content_type="text/x", meta='{"via":"http"}')
    keep(content)
    assert delayed.is_any_due(DUE)
    keep(DueMessages(LATER))
    (row,) = contents.messages()
    assert (row.id, row.topic, row.body) == (content.envelope.id, "t", body)
    assert (row.content_type, row.received_at) == ("text/x", LATER)
    assert json.loads(row.meta) == {"via": "http", "accepted_at": THEN}
    assert delayed.count() == 0
    assert not delayed.is_any_due(LATER)
    assert contents.counters() == contents.sums()


def test_delayed_messages_of_a_batch_keep_their_ids_and_their_order(keep, contents):
    envelope = batch("t", IDS.prefix(), THEN, [b"a", b"b", b"c"])
    keep(later(envelope))
    keep(DueMessages(DUE))
    rows = contents.messages()
    assert [row.body for row in rows] == [b"a", b"b", b"c"]
    assert rows[0].id == envelope.id


def test_messages_that_are_due_first_are_stored_first(keep, contents):
    bodies = {b"third": LATER, b"first": THEN, b"second": DUE}
    keep(*(one(body, at) for body, at in bodies.items()))
    keep(DueMessages(LATER))
    assert contents.bodies() == [b"first", b"second", b"third"]


def test_a_delayed_message_that_comes_again_is_kept_once(keep, contents, delayed):
    content = one()
    keep(content)
    keep(content)
    assert delayed.count() == 1
    keep(DueMessages(DUE))
    keep(content)
    keep(DueMessages(DUE))
    assert len(contents.bodies()) == 1
    assert contents.dead() == []


def test_another_body_with_the_id_of_a_delayed_message_is_a_dead_letter(keep, contents):
    content = one()
    keep(content)
    keep(one(b"another", name=content.envelope.id))
    keep(DueMessages(DUE))
    assert contents.bodies() == [b"hello"]
    assert [each[2:] for each in contents.dead()] == [(b"another", "conflict")]


def test_a_cancelled_message_never_becomes_a_row_not_even_if_it_comes_again(
    store, keep, contents, delayed
):
    content = one()
    keep(content)
    assert delayed.cancel(content.envelope.id, DEED)
    assert not delayed.cancel(content.envelope.id, DEED)
    assert delayed.find(content.envelope.id) is None
    assert (delayed.count(), delayed.page(("", 0), 10)) == (0, [])
    keep(content)
    keep(DueMessages(LATER))
    assert contents.bodies() == []
    (entry,) = store.access.audit(Span(), 9)
    assert (entry.action, entry.details) == ("delayed-cancel", f"topic t, due at {DUE}")


def test_the_id_of_a_cancelled_message_is_forgotten_after_a_day(keep, delayed):
    content = one()
    keep(content)
    delayed.cancel(content.envelope.id, DEED)
    far = "9999-01-01T00:00:00.000Z"
    assert delayed.is_any_due(far)
    keep(DueMessages(far))
    assert not delayed.is_any_due(far)


def test_a_message_of_a_delayed_batch_that_failed_a_check_is_a_dead_letter_at_once(
    keep, contents, delayed
):
    messages = [
        Message(IDS.new(), THEN, b"good"),
        Message(IDS.new(), THEN, b"bad", dead=("schema", "it does not fit")),
    ]
    keep(later(pack("t", messages, 7)))
    assert delayed.count() == 1
    assert [each[2:] for each in contents.dead()] == [(b"bad", "schema")]


def test_an_envelope_that_can_t_be_read_is_a_dead_letter_though_it_is_delayed(
    keep, contents, delayed
):
    envelope = pack("t", [Message(IDS.new(), THEN, b"x"), Message(IDS.new(), THEN, b"y")], 2)
    object.__setattr__(envelope, "body", b"[nonsense")
    keep(later(envelope))
    assert delayed.count() == 0
    assert [each[2:] for each in contents.dead()] == [(b"[nonsense", "undecodable")]


def test_many_due_messages_become_rows_in_several_transactions(keep, contents, delayed):
    lines = [b"%d" % number for number in range(2500)]
    keep(later(batch("t", IDS.prefix(), THEN, lines)))
    steps = 0
    while delayed.is_any_due(DUE):
        keep(DueMessages(DUE))
        steps += 1
    assert steps == 3
    assert contents.bodies() == lines


def test_large_due_messages_become_rows_a_few_at_a_time(keep, contents, delayed):
    for _ in range(3):
        keep(one(random.randbytes(5 * 2**20)))
    keep(DueMessages(DUE))
    assert len(contents.bodies()) == 1
    assert delayed.count() == 2


def test_the_list_of_delayed_messages_goes_on_behind_a_place_and_shows_permitted_topics(
    keep, delayed
):
    keep(one(due_at=LATER), one(due_at=DUE), one(due_at=DUE, topic="u"))
    first, *_ = rows = delayed.page(("", 0), 2)
    assert [row.due_at for row in rows] == [DUE, DUE]
    rest = delayed.page((rows[-1].due_at, rows[-1].seq), 10)
    assert [row.due_at for row in rest] == [LATER]
    assert (first.bytes, first.accepted_at) == (5, THEN)
    assert [row.topic for row in delayed.page(("", 0), 10, ("u*",))] == ["u"]
