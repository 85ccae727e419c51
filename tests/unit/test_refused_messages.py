"""Messages that the database refuses: each dies alone, whatever it came with.

And what is wrong with the tables themselves, which is nobody's death.
"""

import time

import pytest
from ready_made import migrate
from store_contents import IDS, TIME, letter, lines, many, one, scattered

from appliance.errors import StoreError, TablesError, UnstorableError
from appliance.model.contents import DeadEnvelope, DeadLetter
from appliance.model.ledger import LedgerEntry
from appliance.model.wire import Envelope, Kind, Message, pack, single, unpack
from appliance.store.sql import message_writer
from appliance.store.sqlite import writer as writers
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.writer import SqliteWriter

SOURCE = "0123456789abcdef"
GOOD = [b'{"n":%d}' % n for n in range(9)]
BAD = b"bad"
#: Ways in which a user's database refuses a message with the body `bad`.
REFUSALS = {
    "a trigger that ends the statement": [
        (
            "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN SELECT raise(ABORT, 'against the rule'); END"
        )
    ],
    "a trigger that stops amid it": [
        (
            "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN SELECT raise(FAIL, 'against the rule'); END"
        )
    ],
    "a trigger that ends the whole transaction": [
        (
            "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN SELECT raise(ROLLBACK, 'against the rule'); END"
        )
    ],
    "a trigger that ends the whole transaction afterwards": [
        (
            "CREATE TRIGGER mine AFTER INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN SELECT raise(ROLLBACK, 'against the rule'); END"
        )
    ],
    "a trigger that leaves it out": [
        (
            "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN SELECT raise(IGNORE); END"
        )
    ],
    "a trigger that stumbles over it": [
        "CREATE TABLE seen (n)",
        (
            "CREATE TRIGGER mine AFTER INSERT ON messages WHEN new.topic <> 'other' "
            "BEGIN INSERT INTO seen VALUES (new.body ->> '$.n'); END"
        ),
    ],
    "a constraint": [
        "PRAGMA writable_schema = ON",
        (
            "UPDATE sqlite_master SET sql = replace(sql, 'body TEXT NOT NULL,', "
            "'body TEXT NOT NULL CHECK (body <> ''bad''),') WHERE name = 'messages'"
        ),
    ],
    "a value that is too large for SQLite": [
        "CREATE TABLE seen (n)",
        (
            "CREATE TRIGGER mine AFTER INSERT ON messages WHEN new.body = 'bad' "
            "BEGIN INSERT INTO seen VALUES (zeroblob(2000000000)); END"
        ),
    ],
    "an index of an expression": ["CREATE INDEX mine ON messages (body ->> '$.n')"],
    "a column of one's own": [
        "ALTER TABLE messages ADD COLUMN n INTEGER NOT NULL DEFAULT 0 CHECK (body <> 'bad')"
    ],
    "a trigger's own table": [
        "CREATE TABLE seen (body NOT NULL CHECK (body <> 'bad'))",
        (
            "CREATE TRIGGER mine AFTER INSERT ON messages BEGIN "
            "INSERT INTO seen VALUES (new.body); END"
        ),
    ],
}
#: The kinds of contents, each of these bodies.
KINDS = {
    "lines": lines,
    "a pack": many,
    "a pack with bytes": lambda bodies: many([*bodies[:-1], b"\xff\0", bodies[-1]]),
    "messages of several topics": scattered,
    "messages": lambda bodies: [one(body) for body in bodies],
    "messages of another program": lambda bodies: [
        Envelope("t", Kind.MESSAGE, IDS.new(), TIME, 1, len(body), body) for body in bodies
    ],
}


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


def change(path, *statements):
    link = connect(path, readonly=False)
    for statement in statements:
        link.execute(statement)
    link.close()


def ask(path, sql, *values):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql, values).fetchall()
    finally:
        link.close()


def store(path, *contents, account=True):
    made = SqliteWriter(path)
    try:
        return made.store(contents, account=account)
    finally:
        made.close()


def listed(made):
    return made if isinstance(made, list) else [made]


def numbered(contents):
    """The envelopes with their numbers for the ledger."""
    count = 0
    found = []
    for content in contents:
        if isinstance(content, Envelope):
            count += 1
            entry = LedgerEntry(SOURCE, count, count - 1, []).encode()
            content = Envelope(  # noqa: PLW2901
                content.topic, content.kind, content.id, content.received_at, content.count,
                content.size, content.body, entry,
            )  # fmt: skip
        found.append(content)
    return found


def everything(contents):
    """(id, body) of each message, in the order of coming."""
    return [
        (message.id, message.body)
        for content in contents
        if isinstance(content, Envelope)
        for message in unpack(content)
    ]


def check_each_is_somewhere_once(path, contents):
    rows = ask(path, "SELECT id, body FROM messages ORDER BY seq")
    dead = ask(path, "SELECT id, body FROM dead_letters WHERE reason = 'unstorable' ORDER BY seq")
    dead = [(i, body.decode()) for i, body in dead]
    sent = everything(contents)
    assert rows == [each for each in sent if each[1] != "bad"]
    assert dead == [each for each in sent if each[1] == "bad"]
    kept = ask(path, "SELECT topic, messages, bytes FROM topics ORDER BY topic")
    sums = "SELECT topic, count(*), sum(octet_length(body)) FROM messages GROUP BY topic"
    assert kept == ask(path, sums)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", REFUSALS)
@pytest.mark.parametrize("places", [(4,), (0,), (9,), (0, 1, 5, 9)])
def test_a_refused_message_dies_alone(path, way, kind, places):
    change(path, *REFUSALS[way])
    bodies = [*GOOD]
    for place in places:
        bodies.insert(place, BAD)
    contents = numbered(
        [one(b'{"first":1}'), *listed(KINDS[kind](bodies)), one(b'{"last":1}', "other")]
    )
    if "bytes" in kind and way not in {
        "a trigger that stumbles over it",
        "an index of an expression",
    }:
        assert any(isinstance(body, bytes) for _, body in everything(contents))
    elif "bytes" in kind:
        contents = numbered([one(b'{"first":1}'), *listed(many(bodies))])
    for _ in range(2):  # killed before the acknowledgement, it all comes again
        assert store(path, *contents) == 0
        check_each_is_somewhere_once(path, contents)
    (source,) = ask(path, "SELECT accounted, missing FROM sources")
    count = sum(isinstance(content, Envelope) for content in contents)
    assert source == (f"[[1,{count}]]", 0)
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_refusal_after_the_fact_leaves_the_row_and_makes_no_letter(path):
    """`RAISE(FAIL)` in an AFTER trigger complains of a row that is there."""
    change(
        path,
        "CREATE TRIGGER mine AFTER INSERT ON messages WHEN new.body = 'bad' "
        "BEGIN SELECT raise(FAIL, 'too late'); END",
    )
    contents = [lines([b"a", BAD, b"b"])]
    for _ in range(2):
        store(path, *contents)
        assert ask(path, "SELECT body FROM messages ORDER BY seq") == [("a",), ("bad",), ("b",)]
        assert ask(path, "SELECT * FROM dead_letters") == []


def test_a_stored_message_that_comes_again_is_not_refused_by_a_new_rule(path):
    contents = [one(BAD), lines([b"a", BAD])]
    store(path, *contents)
    change(path, *REFUSALS["a trigger that ends the statement"])
    store(path, *contents, one(b"next"))
    store(path, *contents)
    assert len(ask(path, "SELECT * FROM messages")) == 4
    assert ask(path, "SELECT * FROM dead_letters") == []


def test_the_second_of_two_that_must_differ_is_the_one_that_dies(path):
    change(path, "CREATE UNIQUE INDEX once ON messages (topic, body)")
    store(path, lines([b"a", b"b", b"a", b"c"]), one(b"b"), one(b"b", "u"))
    rows = ask(path, "SELECT topic, body FROM messages ORDER BY seq")
    assert rows == [("t", "a"), ("t", "b"), ("t", "c"), ("u", "b")]
    dead = ask(path, "SELECT body, reason, error FROM dead_letters ORDER BY seq")
    error = "UNIQUE constraint failed: messages.topic, messages.body"
    assert dead == [(b"a", "unstorable", error), (b"b", "unstorable", error)]


def test_the_letters_of_one_transaction_are_in_the_order_of_their_messages(path):
    change(path, *REFUSALS["a trigger that ends the statement"])
    first, other = one(b"first"), one(b"x")
    store(path, first, other)
    conflict = single("t", other.id, TIME, b"y")
    failed = Message(IDS.new(), TIME, "failed", dead=("schema", "no"))
    mixed = pack("t", [Message(IDS.new(), TIME, "bad"), failed, Message(IDS.new(), TIME, "bad")], 9)
    dying = DeadEnvelope(lines([b"gone 1", b"gone 2"]), "broker-expired", "late")
    store(path, one(BAD), letter(), mixed, dying, conflict, lines([b"z", BAD]), one(b"good"))
    assert ask(path, "SELECT body, reason FROM dead_letters ORDER BY seq") == [
        (BAD, "unstorable"), (b"x", "conflict"), (BAD, "unstorable"), (b"failed", "schema"),
        (BAD, "unstorable"), (b"gone 1", "broker-expired"), (b"gone 2", "broker-expired"),
        (b"y", "conflict"), (BAD, "unstorable"),
    ]  # fmt: skip
    rows = ask(path, "SELECT body FROM messages ORDER BY seq")
    assert rows == [("first",), ("x",), ("z",), ("good",)]


def test_a_letter_of_a_dead_envelope_whose_message_is_stored_is_none(path):
    change(path, *REFUSALS["a trigger that ends the statement"])
    envelope = lines([b"a", BAD, b"c"])
    store(path, envelope)
    store(path, DeadEnvelope(envelope, "broker-expired", "late"))
    dead = ask(path, "SELECT body, reason FROM dead_letters ORDER BY seq")
    assert dead == [(BAD, "unstorable"), (BAD, "broker-expired")]


def test_a_rule_that_refuses_a_whole_topic_holds_no_other_topic_up(path):
    change(
        path,
        "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.topic = 'closed' "
        "BEGIN SELECT raise(ABORT, 'this topic is closed'); END",
    )
    store(path, one(b"alone", "closed"))
    store(path, lines([b"a", b"b"], "closed"), one(b"x", "open"))
    assert ask(path, "SELECT body FROM messages") == [("x",)]
    assert len(ask(path, "SELECT * FROM dead_letters")) == 3


def test_a_rule_that_takes_only_what_it_knows_lets_a_stranger_die_alone(path):
    """Alone in its transaction, it is told from a broken table by rows that are taken."""
    store(path, one(b'{"kind":"a","n":1}', "known"))
    change(
        path,
        "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.topic <> 'known' "
        "OR new.body ->> '$.kind' IS NOT 'a' BEGIN SELECT raise(ABORT, 'not known'); END",
        "CREATE UNIQUE INDEX mine ON messages (topic, received_at)",
    )
    store(path, one(b"{}", "stranger"))
    assert ask(path, "SELECT body, error FROM dead_letters") == [(b"{}", "not known")]
    assert len(ask(path, "SELECT * FROM messages")) == 1


def test_counters_that_a_users_rule_refuses_hold_no_message_up(path):
    change(
        path,
        "CREATE TRIGGER mine BEFORE UPDATE ON topics WHEN new.topic = 't' "
        "BEGIN SELECT raise(ABORT, 'hands off'); END",
    )
    for number in range(3):
        store(path, one(b"%d" % number), one(b"%d" % number, "u"))
    assert len(ask(path, "SELECT * FROM messages")) == 6
    assert dict(ask(path, "SELECT topic, messages FROM topics")) == {"t": 1, "u": 3}
    assert ask(path, "SELECT * FROM dead_letters") == []


# --- what is wrong with the tables themselves ---------------------------------------------------

REFUSE_ALL = "CREATE TRIGGER mine BEFORE INSERT ON messages BEGIN SELECT raise({}); END"
#: What makes the tables unusable, and what mends it.
BROKEN = {
    "a renamed column": (
        ["ALTER TABLE messages RENAME COLUMN body TO payload"],
        ["ALTER TABLE messages RENAME COLUMN payload TO body"],
    ),
    "a renamed table": (
        ["ALTER TABLE messages RENAME TO letters"],
        ["ALTER TABLE letters RENAME TO messages"],
    ),
    "a missing column": (
        ["ALTER TABLE dead_letters DROP COLUMN content_type"],
        ["ALTER TABLE dead_letters ADD COLUMN content_type TEXT"],
    ),
    "no table of topics": (
        ["ALTER TABLE topics RENAME TO subjects"],
        ["ALTER TABLE subjects RENAME TO topics"],
    ),
    "no ledger": (
        ["ALTER TABLE sources RENAME TO origins"],
        ["ALTER TABLE origins RENAME TO sources"],
    ),
    "a view in the table's place": (
        ["ALTER TABLE messages RENAME TO letters", "CREATE VIEW messages AS SELECT * FROM letters"],
        ["DROP VIEW messages", "ALTER TABLE letters RENAME TO messages"],
    ),
    "a trigger that names a missing table": (
        [
            ("CREATE TRIGGER mine AFTER INSERT ON messages BEGIN "
            "INSERT INTO nowhere VALUES (new.seq); END")
        ],
        ["DROP TRIGGER mine"],
    ),
    "a trigger that names a missing column": (
        [
            "CREATE TABLE notes (seq)",
            ("CREATE TRIGGER mine AFTER INSERT ON messages BEGIN "
            "INSERT INTO notes (sequence) VALUES (new.seq); END"),
        ],
        ["DROP TRIGGER mine"],
    ),
    "a trigger that names a missing function": (
        ["CREATE TRIGGER mine AFTER INSERT ON messages BEGIN SELECT my_own(new.body); END"],
        ["DROP TRIGGER mine"],
    ),
    "a trigger that refuses everything": (
        [REFUSE_ALL.format("ABORT, 'closed for today'")],
        ["DROP TRIGGER mine"],
    ),
    "a trigger that ends every transaction": (
        [REFUSE_ALL.format("ROLLBACK, 'closed for today'")],
        ["DROP TRIGGER mine"],
    ),
    "a trigger that leaves everything out": ([REFUSE_ALL.format("IGNORE")], ["DROP TRIGGER mine"]),
    "a column of one's own that nobody fills": (
        [
            "PRAGMA writable_schema = ON",
            ("UPDATE sqlite_master SET sql = replace(sql, 'meta TEXT', 'meta TEXT, mine NOT NULL') "
            "WHERE name = 'messages'"),
        ],
        [
            "PRAGMA writable_schema = ON",
            ("UPDATE sqlite_master SET sql = replace(sql, ', mine NOT NULL', '') "
            "WHERE name = 'messages'"),
        ],
    ),
    "ids that need not differ": (
        [
            "PRAGMA legacy_alter_table = ON",
            "ALTER TABLE messages RENAME TO letters",
            "CREATE TABLE messages AS SELECT * FROM letters",
        ],
        ["PRAGMA legacy_alter_table = ON", "DROP TABLE messages",
         "ALTER TABLE letters RENAME TO messages"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["lines", "a pack", "messages"])
@pytest.mark.parametrize("way", ["ABORT", "ROLLBACK"])
def test_no_message_dies_of_a_trigger_that_is_dropped_while_it_is_asked_whether_any_is_taken(
    path, monkeypatch, way, kind
):
    change(path, REFUSE_ALL.format(f"{way}, 'closed for today'"))

    def asked(connection, topics, ask_really=writers.takes_a_row):
        change(path, "DROP TRIGGER IF EXISTS mine")
        return ask_really(connection, topics)

    monkeypatch.setattr(writers, "takes_a_row", asked)
    contents = listed(KINDS[kind]([b"a", b"b", b"c"]))
    store(path, *contents)
    bodies = [row[0] for row in ask(path, "SELECT body FROM messages ORDER BY seq")]
    assert bodies == [each[1] for each in everything(contents)]
    assert ask(path, "SELECT body, reason FROM dead_letters") == []


@pytest.mark.parametrize("way", BROKEN)
@pytest.mark.parametrize("kind", ["lines", "a pack", "messages"])
@pytest.mark.parametrize("empty", [True, False])
def test_tables_that_are_wrong_hold_messages_until_they_are_mended(path, way, kind, empty):
    broken, mended = BROKEN[way]
    old = [] if empty else [one(b"old"), one(b'{"older":1}', "other")]
    store(path, *old)
    change(path, *broken)
    contents = [*listed(KINDS[kind]([b"a", b"b", b"c"])), letter(), one(b"d", "u")]
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store(path, *contents)
        assert isinstance(caught.value, TablesError), repr(caught.value)
        assert not isinstance(caught.value, UnstorableError)
    change(path, *mended)
    store(path, *contents)
    bodies = [row[0] for row in ask(path, "SELECT body FROM messages ORDER BY seq")]
    assert bodies == [each[1] for each in everything([*old, *contents])]
    assert ask(path, "SELECT body, reason FROM dead_letters") == [(b"x", "conflict")]


@pytest.mark.parametrize("way", list(BROKEN)[:9])
def test_tables_that_take_nothing_are_seen_without_a_message(path, way):
    """So `/readyz` says it before the first message waits for ever, and a worker at its start."""
    reader = SqliteReader(path)
    reader.check()
    broken, mended = BROKEN[way]
    change(path, *broken)
    with pytest.raises(TablesError, match="the tables are not as they must be"):
        reader.check()
    with pytest.raises(TablesError, match="the tables are not as they must be"):
        SqliteWriter(path)
    change(path, *mended)
    reader.check()
    SqliteWriter(path).close()
    reader.close()


def test_a_change_while_the_writer_is_open_is_seen_as_well(path):
    made = SqliteWriter(path)
    made.store([one(b"a")])
    change(path, "ALTER TABLE messages RENAME COLUMN body TO payload")
    with pytest.raises(TablesError, match="has no column named body"):
        made.store([one(b"b")])
    made.close()
    change(path, "ALTER TABLE messages RENAME COLUMN payload TO body")
    store(path, one(b"b"))
    assert ask(path, "SELECT body FROM messages") == [("a",), ("b",)]


def test_nothing_is_left_behind_by_a_look_whether_rows_are_taken(path):
    change(path, *REFUSALS["a trigger that ends the statement"])
    store(path, one(BAD))
    assert ask(path, "SELECT * FROM messages") == ask(path, "SELECT * FROM topics") == []
    assert ask(path, "SELECT seq FROM sqlite_sequence WHERE name = 'messages'") in ([], [(0,)])


def test_a_letter_that_is_refused_too_is_held(path):
    change(
        path,
        *REFUSALS["a trigger that ends the statement"],
        "CREATE TRIGGER none BEFORE INSERT ON dead_letters BEGIN SELECT raise(ABORT, 'no'); END",
    )
    with pytest.raises(TablesError, match="not even a dead letter can be stored: no"):
        store(path, one(b"good"), one(BAD))
    assert ask(path, "SELECT * FROM messages") == []


# --- many of them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "lines_sent"), [("ABORT", 100_000), ("ROLLBACK", 20_000)], ids=["ABORT", "ROLLBACK"]
)
@pytest.mark.parametrize("every", [1_000_000, 100])
def test_refused_lines_among_many_cost_little(path, way, lines_sent, every):
    """Generous: the figures are in docs/durability.md."""
    change(
        path,
        "CREATE TRIGGER mine BEFORE INSERT ON messages WHEN new.body = 'bad' "
        f"BEGIN SELECT raise({way}, 'no'); END",
    )
    bodies = [BAD if n % every == 77 else b"line number %d" % n for n in range(lines_sent)]
    began = time.monotonic()
    store(path, lines(bodies))
    assert time.monotonic() - began < 20
    count = bodies.count(BAD)
    assert count == max(1, lines_sent // every)
    assert ask(path, "SELECT count(*) FROM messages") == [(lines_sent - count,)]
    assert ask(path, "SELECT count(*) FROM dead_letters") == [(count,)]


def test_pieces_are_stored_in_order_and_hold_every_message(path, monkeypatch):
    monkeypatch.setattr(message_writer, "_PIECE", 3)
    change(path, *REFUSALS["a trigger that ends the whole transaction"])
    bodies = [BAD if n in {0, 7, 8, 9, 19} else b"%d" % n for n in range(20)]
    contents = numbered([one(b"x"), lines(bodies), letter(), many(bodies), one(BAD), one(b"y")])
    assert store(path, *contents) == 0
    check_each_is_somewhere_once(path, contents)
    assert ask(path, "SELECT accounted, missing FROM sources") == [("[[1,5]]", 0)]
    assert isinstance(contents[2], DeadLetter)


def test_pieces_without_an_account_leave_the_ledger_for_later(path):
    change(path, *REFUSALS["a trigger that ends the whole transaction"])
    contents = numbered([lines([b"a", BAD, b"b"])])
    assert store(path, *contents, account=False) == 0
    assert ask(path, "SELECT * FROM sources") == []
    check_each_is_somewhere_once(path, contents)
