"""Dead letters: what becomes one, how it is kept once, and how it is removed."""

import time

import pytest
from store_contents import IDS, TIME, letter, one

from appliance.model.contents import DeadEnvelope
from appliance.model.wire import Message, batch, pack, single
from appliance.store.rows import SHOWN_BYTES, Choice


@pytest.fixture
def letters(store):
    return store.dead_letters


@pytest.mark.parametrize("bodies", [[b"a", b"b"], [b"a", b"\xff", b"c"]])
def test_an_envelope_that_was_given_up_is_a_letter_for_each_message(writer, contents, bodies):
    envelope = batch("t", IDS.prefix(), TIME, bodies)
    dead = DeadEnvelope(envelope, "broker-expired", "too late")
    for _ in range(2):  # the second time it is a redelivery
        writer.store([dead, one(b"next")])
    rows = [(row.topic, row.body, row.reason, row.received_at) for row in contents.letters()]
    assert rows == [("t", body, "broker-expired", TIME) for body in bodies]
    assert contents.bodies() == [b"next"] * 2


def test_an_envelope_with_a_wrong_count_is_one_letter(writer, contents):
    envelope = pack("t", [Message(IDS.new(), TIME, b"x")], 1)
    broken = type(envelope)(**{
        **{name: getattr(envelope, name) for name in envelope.__slots__}, "count": 2,
    })  # fmt: skip
    writer.store([DeadEnvelope(broken, "broker-expired", "too late")])
    (row,) = contents.letters()
    assert (row.body, row.reason) == (broken.body, "undecodable")
    assert row.error.endswith("; too late")


def test_a_stored_message_is_not_dead_though_the_broker_gave_it_up(writer, contents):
    """In the same transaction, and in a later one; another body under the same id is dead."""
    first, second = (single("t", IDS.new(), TIME, body) for body in (b"one", b"\xff"))
    other = single("t", first.id, TIME, b"other")
    dead = [DeadEnvelope(e, "broker-expired", "") for e in (first, second, other)]
    writer.store([first, second, *dead])
    writer.store(dead)
    assert [(row.id, row.body) for row in contents.letters()] == [(first.id, b"other")]
    assert len(contents.messages()) == 2


def test_pieces_hold_every_letter_there_was_once(writer, letters):
    writer.store([letter(b"%d" % n * 50_000) for n in range(40)])
    for choice in (Choice(), Choice(after=0)):
        pieces = list(letters.pieces(choice))
        assert len(pieces) > 3
        seqs = [row.seq for piece in pieces for row in piece]
        assert sorted(seqs) == list(range(1, 41))
        assert seqs == sorted(seqs, reverse=choice.after is None)
    assert sum(len(piece) for piece in letters.pieces(Choice(), 7)) == 7


def test_a_long_body_is_left_out_but_can_be_asked_for(writer, letters):
    long = b"x" * (SHOWN_BYTES + 1)
    writer.store([letter(long)])
    (row,) = letters.page(Choice(), 10).rows
    assert (row.size, row.body) == (len(long), None)
    assert letters.body(row.seq) == long
    assert letters.body(99) is None


def test_a_letter_that_died_again_is_not_removed(writer, letters):
    """Sent again, it died again before its letter was removed: then it is all there is of it."""
    writer.store([letter()])
    (row,) = letters.page(Choice(), 1).rows
    time.sleep(0.002)  # so that the time of death is another one
    read = letters.find(row.seq)
    writer.store([letter()])
    assert not letters.remove(read)
    assert letters.count(Choice()) == 1
    assert letters.remove(letters.find(row.seq))
    assert not letters.remove(read)
    assert letters.count(Choice()) == 0


def test_letters_are_chosen_by_reason_and_topic(writer, letters):
    writer.store([letter(b"1"), letter(b"2", reason="too-large"), letter(b"3", topic="u")])
    assert [row.body for row in letters.page(Choice(topic="t"), 10).rows] == [b"2", b"1"]
    assert [row.body for row in letters.page(Choice(reason="conflict"), 10).rows] == [b"3", b"1"]
    assert letters.count(Choice(reason="conflict", topic="t", before=1)) == 1


def test_letters_of_one_message_are_found_by_its_id(writer, letters):
    writer.store([letter(b"1", message_id="a"), letter(b"2"), letter(b"3", message_id="a")])
    first, second = letters.of_message("a")
    assert (letters.find(first).body, letters.find(second).body) == (b"1", b"3")
    assert letters.of_message("none") == []
    assert letters.find(99) is None


def test_a_page_of_letters_is_bounded_in_rows_and_bytes(writer, letters):
    writer.store([letter(b"%d" % n * 100) for n in range(5)])
    assert [len(letters.page(Choice(), n).rows) for n in (1, 3, 9)] == [1, 3, 5]
    page = letters.page(Choice(after=0), 9, max_bytes=250)
    assert (len(page.rows), page.more) == (2, True)
    assert len(letters.page(Choice(), 9, max_bytes=1).rows) == 1


def test_reasons_are_counted_the_most_frequent_first_and_by_topic_for_who_sees_some(
    writer, letters
):
    writer.store([letter(b"1", "a"), letter(b"2", "a"), letter(b"3", "b", "unstorable")])
    assert letters.reasons() == [("conflict", 2), ("unstorable", 1)]
    assert letters.reasons(["b*"]) == [("unstorable", 1)]
    assert letters.reasons([]) == []


def test_letters_are_counted_by_reason_topic_and_who_sees_them(writer, letters):
    writer.store([letter(b"1", "a"), letter(b"2", "ab"), letter(b"3", "b", "unstorable")])
    counts = {
        Choice(): 3,
        Choice(reason="conflict"): 2,
        Choice(reason="conflict", topic="ab"): 1,
        Choice(patterns=("a*",)): 2,
        Choice(reason="conflict", patterns=("ab", "b")): 1,
        Choice(topic="a", patterns=("b",)): 0,
        Choice(patterns=()): 0,
    }
    assert {choice: letters.count(choice) for choice in counts} == counts
    assert letters.of_topics(["a", "b", "none"]) == {"a": 1, "b": 1}
