"""Rows that another program inserts into `messages`, with a `seq` of the database's or its own."""

import re
import threading
from pathlib import Path

import psycopg
import pytest
from harness import wait_until
from store_contents import TIME, lines, many, one

from appliance.store.rows import Followed

PAGE = Path(__file__).parents[2] / "docs" / "postgresql.md"

on_postgresql = pytest.mark.parametrize("engine", ["postgresql"])


def own(*bodies):
    """Leaves `seq` to the database."""
    rows = ", ".join(f"('mine {body}', 't', '{body}', '{TIME}')" for body in bodies)
    return f"INSERT INTO messages (id, topic, body, received_at) VALUES {rows}"


def placed(*places):
    rows = ", ".join(f"({n}, 'mine {n}', 't', 'own {n}', '{TIME}')" for n in places)
    return f"INSERT INTO messages (seq, id, topic, body, received_at) VALUES {rows}"


@pytest.fixture
def followed(store):
    """The bodies that one who follows the messages has got so far; reads on at each call."""
    got, place = [], 0

    def read():
        nonlocal place
        end = store.follower.end()
        while place < end:
            stretch = store.follower.part(Followed("t"), place, end)
            got.extend(row.body for row in stretch.rows)
            place = stretch.end
        return got

    return read


def test_own_row_without_a_seq_has_the_next_place_and_is_followed(
    writer, contents, by_hand, followed
):
    writer.store([one(b"1")])
    by_hand(own("2"))
    assert followed() == [b"1", b"2"]
    writer.store([one(b"3"), lines([b"4", b"5"])])
    by_hand(own("6", "7", "8"))
    assert followed() == [b"%d" % n for n in range(1, 9)]
    writer.store([many([b"9", b"10"])])
    writer.store([one(b"11")])
    assert followed() == [b"%d" % n for n in range(1, 12)]
    assert contents.dead() == []


@on_postgresql
def test_many_own_rows_of_one_statement_have_places_one_after_another(writer, by_hand):
    writer.store([one()])
    by_hand(
        "INSERT INTO messages (id, topic, body, received_at) "
        f"SELECT 'mine ' || n, 't', n, '{TIME}' FROM generate_series(1, 20000) AS n"
    )
    assert by_hand("SELECT min(seq), max(seq), count(*) FROM messages WHERE id LIKE 'mine%'") == [
        (2, 20001, 20000)
    ]
    assert by_hand("SELECT count(*) FROM messages WHERE id LIKE 'mine%' AND seq <> body::int + 1")[
        0
    ] == (0,)
    writer.store([one(b"last")])
    ((last,),) = by_hand("SELECT seq FROM messages WHERE body = 'last'")
    assert 20001 < last <= 2 * 20001  # places that were left over stay empty


@on_postgresql
def test_own_rows_that_were_undone_leave_places_and_nothing_else(writer, config, followed):
    writer.store([one(b"1")])
    with psycopg.connect(config.database_url) as link:
        link.execute(own("2"))
        link.execute("SAVEPOINT before")
        link.execute(own("no"))
        link.execute("ROLLBACK TO before")
        link.execute(own("3"))
    with psycopg.connect(config.database_url) as link:
        link.execute(own("4", "5"))
    writer.store([one(b"6")])
    assert followed() == [b"%d" % n for n in range(1, 7)]


@on_postgresql
def test_messages_are_stored_behind_rows_that_took_their_places(
    store, writer, contents, by_hand, followed
):
    writer.store([one(b"1")])
    by_hand(placed(2))
    writer.store([one(b"3")])
    by_hand(placed(4, 5, 7))
    writer.store([lines([b"8", b"9"])])
    by_hand(placed(13, 14))
    for body in (b"10", b"11", b"12", b"15"):
        writer.store([one(body)])
    expected = [
        b"1", b"own 2", b"3", b"own 4", b"own 5", b"own 7", b"8", b"9",
    ]  # fmt: skip
    assert followed()[: len(expected)] == expected
    assert contents.dead() == []
    assert {body for body in followed() if not body.startswith(b"own")} == {
        b"1", b"3", b"8", b"9", b"10", b"11", b"12", b"15",
    }  # fmt: skip
    # The messages are counted once each; rows of others are the janitor's to count.
    assert by_hand("SELECT messages FROM topics") == [(8,)]
    assert writer._tally.stored == 8
    store.repair(lambda _: False)
    assert contents.counters() == contents.sums()
    assert store.verify(quick=False, alone=False, progress=lambda *_: None).problems == []


@on_postgresql
def test_messages_are_stored_behind_a_row_that_was_put_there_meanwhile(
    writer, config, contents, by_hand
):
    writer.store([one(b"1")])
    with psycopg.connect(config.database_url) as link:
        link.execute(placed(2, 3))  # not committed: who comes to that place waits
        storing = threading.Thread(target=writer.store, args=([one(b"4"), lines([b"5", b"6"])],))
        storing.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: by_hand(waiting) == [(1,)], "the writer waits for the other one")
        link.commit()
    storing.join(60)
    assert [body for body in contents.bodies() if not body.startswith(b"own")] == [
        b"1", b"4", b"5", b"6",
    ]  # fmt: skip
    assert contents.dead() == []


@on_postgresql
def test_messages_stay_below_a_row_whose_number_nobody_reaches(writer, by_hand, contents):
    writer.store([one(b"1")])
    by_hand(placed(2**63 - 1))
    writer.store([one(b"2"), one(b"2")])
    known = one(b"3")
    writer.store([known])
    writer.store([known, one(b"4")])  # with care
    by_hand(own("5"))
    writer.store([one(b"6")])
    assert by_hand("SELECT body FROM messages ORDER BY seq")[:-1] == [
        (body,) for body in ("1", "2", "2", "3", "4", "5", "6")
    ]
    assert contents.dead() == []


@on_postgresql
@pytest.mark.parametrize("place", ["", "new.seq + 1"])
def test_trigger_that_adds_a_row_to_each_message_keeps_none_out(writer, by_hand, contents, place):
    columns = "id, topic, body, received_at" + (", seq" if place else "")
    values = "new.id || '-copy', 'copies', new.body, new.received_at" + (place and f", {place}")
    by_hand(f"""
        CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.topic <> 'copies' THEN
                INSERT INTO messages ({columns}) VALUES ({values});
            END IF;
            RETURN NULL;
        END $$
    """)
    by_hand("""
        CREATE TRIGGER mine AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION mine()
    """)
    known = one(b"1")
    sent = [[known], [one(b"2"), known, one(b"3")], [lines([b"4", b"5", b"6"]), one(b"7")]]
    for contents_of_one in sent:
        writer.store(contents_of_one)
    assert contents.dead() == []
    for topic in ("t", "copies"):
        rows = by_hand(f"SELECT body FROM messages WHERE topic = '{topic}' ORDER BY seq")
        assert rows == [(str(n),) for n in range(1, 8)], topic


@on_postgresql
def test_documented_rights_are_all_that_an_own_row_needs(writer, config, by_hand):
    section = PAGE.read_text().split("### Rows of your own")[1].split("\n## ")[0]
    insert, grants = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    make, *grants = grants.strip().rstrip(";").split(";")
    by_hand("DROP ROLE IF EXISTS writer")
    by_hand(make)
    try:
        with psycopg.connect(config.database_url, autocommit=True) as link:
            link.execute("SET ROLE writer")
            for grant in grants:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    link.execute(insert)
                by_hand(grant)
            link.execute(insert)
        writer.store([one(b"after", "readings")])
        rows = by_hand("SELECT seq, body FROM messages WHERE topic = 'readings' ORDER BY seq")
        assert rows == [(1, '{"n":1}'), (2, "after")]
    finally:
        by_hand("DROP OWNED BY writer")
        by_hand("DROP ROLE writer")
