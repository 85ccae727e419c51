"""Recounts one after another: a look counts what came since the last one, and now and then all."""

import random

import pytest
from store_contents import TIME, many, one

from appliance.store.sql import recounter, row_upkeep
from appliance.store.sql.sums import agree

ADD = f"INSERT INTO messages (id, topic, body, received_at) VALUES ('{{}}', '{{}}', 'x', '{TIME}')"
ADD_FIRST = (
    "INSERT INTO messages (seq, id, topic, body, received_at) "
    f"VALUES (1, 'mine', 'a', 'x', '{TIME}')"
)


def never(_seconds):
    return False


@pytest.fixture
def look(store):
    """Do all duties of the janitor once; those that remember something are the same each time."""
    duties = store.duties(never)

    def look():
        for duty in duties:
            duty.run()

    return look


def test_a_look_corrects_what_others_did_since_the_last_one(writer, contents, by_hand, look):
    writer.store([many([b"1", b"22"], "a"), many([b"333"], "b")])
    look()
    chance = random.Random(20261129)
    for step in range(60):
        topic, seq = chance.choice("abc"), chance.randrange(1, 40)
        writer.store([one(b"%d" % step, chance.choice("ab"))])
        statement = chance.choice([
            "",
            ADD,
            f"DELETE FROM messages WHERE seq = {seq}",
            f"UPDATE messages SET body = 'xyz' || seq WHERE seq = {seq}",
            f"UPDATE messages SET topic = '{topic}' WHERE seq = {seq}",
            f"UPDATE topics SET bytes = bytes + {seq} WHERE topic = '{topic}'",
            f"DELETE FROM topics WHERE topic = '{topic}'",
        ])  # fmt: skip
        if statement == ADD:
            statement = ADD.format(f"mine {step}", topic)
        if statement:
            by_hand(statement)
        look()
        assert contents.counters() == contents.sums(), step
    assert contents.dead() == []


def test_a_row_before_the_newest_is_found_by_a_look_at_all_rows(
    writer, contents, by_hand, look, monkeypatch
):
    writer.store([many([b"1", b"22"], "a"), many([b"333"], "b")])
    by_hand("DELETE FROM messages WHERE seq = 1")
    look()
    right = contents.counters()
    by_hand(ADD_FIRST)
    look()
    assert contents.counters() == right != contents.sums()
    monkeypatch.setattr(row_upkeep.time, "monotonic", lambda: 1e9)
    look()
    assert contents.counters() == contents.sums() != right


def test_topics_beyond_those_that_are_remembered_are_counted_each_time(
    writer, contents, by_hand, look, monkeypatch
):
    monkeypatch.setattr(recounter, "_MOST_REMEMBERED", 1)
    writer.store([many([b"1", b"22"], "a"), many([b"333", b"4"], "b")])
    by_hand("DELETE FROM messages WHERE seq = 3")
    look()
    by_hand(ADD.format(3, "mine", "b"))
    look()
    assert contents.counters() == contents.sums()


def test_rows_that_are_deleted_before_their_first_count_is_written_are_not_counted(
    writer, contents, by_hand, look, monkeypatch
):
    by_hand(ADD.format(1, "one", "theirs"))
    by_hand(ADD.format(2, "another", "theirs"))

    def deletes_and_agrees(*sums):
        by_hand("DELETE FROM messages WHERE seq = 1")
        return agree(*sums)

    monkeypatch.setattr(recounter, "agree", deletes_and_agrees)
    look()
    assert contents.counters() == contents.sums() != []
