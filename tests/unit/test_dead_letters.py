"""What becomes a dead letter, how it is kept once, and how it is taken away."""

from types import SimpleNamespace

import pytest

from appliance import config as configuration
from appliance.broker.envelopes import given_up
from appliance.errors import RedriveError, RefusedError, StoreError, TopicError, UnstorableError
from appliance.model.contents import DeadEnvelope, DeadLetter
from appliance.model.ids import IdSource
from appliance.model.wire import batch, pack, single
from appliance.redrive import Redriver
from appliance.store.sqlite import writer
from appliance.store.sqlite.connection import connect
from appliance.store.sqlite.dead_letters import SHOWN_BYTES, Choice, DeadLetters
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.reader import Reader
from appliance.store.sqlite.salvage import store_each
from appliance.store.sqlite.sources import Ledger
from appliance.store.sqlite.writer import Writer

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def letters(path):
    reader = Reader(path)
    yield DeadLetters(path, reader)
    reader.close()


def store(path, *contents):
    made = Writer(path)
    try:
        made.store(contents)
    finally:
        made.close()


def ask(path, sql):
    link = connect(path, readonly=True)
    try:
        return link.execute(sql).fetchall()
    finally:
        link.close()


def letter(body=b"x", topic="t", reason="conflict", message_id="an id"):
    return DeadLetter(topic, message_id, TIME, body, reason, "why")


def properties(**headers):
    return SimpleNamespace(headers=headers)


# --- what the broker gives up on


@pytest.mark.parametrize(
    ("deaths", "reason"),
    [
        ([{"reason": "expired"}], "broker-expired"),
        ([{"reason": "delivery_limit"}, {"reason": "expired"}], "broker-delivery-limit"),
        ([{"reason": "rejected", "count": 1}], "broker-rejected"),
        ([{"reason": "made up \x1b"}], "broker-unknown"),
        ([{"reason": 7}], "broker-unknown"),
        ([], "broker-unknown"),
        (["expired"], "broker-unknown"),
        ("expired", "broker-unknown"),
        (None, "broker-unknown"),
    ],
)
def test_the_brokers_word_becomes_a_reason_and_nothing_else_does(deaths, reason):
    found = given_up(single("t", IDS.new(), TIME, b"x"), properties(**{"x-death": deaths}))
    assert found.reason == reason
    assert given_up(letter(), SimpleNamespace(headers=None)).reason == "conflict"


@pytest.mark.parametrize("bodies", [[b"a", b"b"], [b"a", b"\xff", b"c"]])
def test_an_envelope_that_was_given_up_is_a_letter_for_each_message(path, bodies):
    envelope = batch("t", IDS.prefix(), TIME, bodies)
    dead = DeadEnvelope(envelope, "broker-expired", "too late")
    for _ in range(2):  # the second time it is a redelivery
        store(path, dead, single("t", IDS.new(), TIME, b"next"))
    found = ask(path, "SELECT topic, body, reason, received_at FROM dead_letters ORDER BY seq")
    assert found == [("t", body, "broker-expired", TIME) for body in bodies]
    assert ask(path, "SELECT messages FROM topics") == [(2,)]


def test_one_that_says_what_it_is_not_is_one_letter(path):
    envelope = pack("t", [(IDS.new(), TIME, b"x")], 1)
    broken = type(envelope)(**{
        **{name: getattr(envelope, name) for name in envelope.__slots__}, "count": 2,
    })  # fmt: skip
    store(path, DeadEnvelope(broken, "broker-expired", "too late"))
    ((body, reason, error),) = ask(path, "SELECT body, reason, error FROM dead_letters")
    assert (body, reason) == (broken.body, "undecodable")
    assert error.endswith("; too late")


def test_what_is_stored_is_not_dead_though_the_broker_gave_it_up(path):
    """In the same transaction, and in a later one; another body under the same id is dead."""
    first, second = (single("t", IDS.new(), TIME, body) for body in (b"one", b"\xff"))
    other = single("t", first.id, TIME, b"other")
    dead = [DeadEnvelope(e, "broker-expired", "") for e in (first, second, other)]
    store(path, first, second, *dead)
    store(path, *dead)
    assert ask(path, "SELECT id, body FROM dead_letters") == [(first.id, b"other")]
    assert len(ask(path, "SELECT * FROM messages")) == 2


# --- what the database refuses


@pytest.fixture
def rule(path):
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER rule BEFORE INSERT ON messages WHEN new.body = 'bad' "
        "BEGIN SELECT raise(ABORT, 'against the rule'); END"
    )
    link.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda bodies: batch("t", IDS.prefix(), TIME, bodies),
        lambda bodies: pack("t", [(IDS.new(), TIME, body) for body in bodies], 1),
    ],
)
def test_only_the_culprit_dies_of_what_the_database_refuses(path, rule, make):
    good = [single("t", IDS.new(), TIME, b"%d" % n) for n in range(3)]
    group = [good[0], make([b"a", b"bad", b"c"]), good[1], letter(), good[2]]
    with pytest.raises(UnstorableError, match="against the rule"):
        store(path, *group)
    assert ask(path, "SELECT * FROM messages") == []
    for _ in range(2):  # killed before the acknowledgement, it all comes again
        store_each(path, group)
    assert ask(path, "SELECT body FROM messages ORDER BY seq") == [("0",), ("1",), ("2",)]
    assert ask(path, "SELECT body, reason FROM dead_letters ORDER BY seq") == [
        (b"a", "unstorable"), (b"bad", "unstorable"), (b"c", "unstorable"), (b"x", "conflict"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "error", [OverflowError("too large"), MemoryError(), TypeError("odd"), ValueError("odder")]
)
def test_no_error_that_content_can_cause_is_held_for_ever(path, monkeypatch, error):
    unpack = writer.unpack

    def stumble(envelope):
        if b"bad" in envelope.body:
            raise error
        return unpack(envelope)

    monkeypatch.setattr(writer, "unpack", stumble)
    bad, good = (single("t", IDS.new(), TIME, body) for body in (b"bad", b"good"))
    with pytest.raises(UnstorableError):
        store(path, bad, good)
    store_each(path, [bad, good])
    ((reason, text),) = ask(path, "SELECT reason, error FROM dead_letters")
    assert (reason, type(error).__name__ in text) == ("unstorable", True)
    assert ask(path, "SELECT body FROM messages") == [("good",)]


def test_a_lock_or_a_full_disk_is_nobodys_fault(path):
    made = Writer(path)
    made._connection.execute("PRAGMA busy_timeout = 50")
    other = connect(path, readonly=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        made.store([single("t", IDS.new(), TIME, b"x")])
    assert not isinstance(caught.value, UnstorableError)
    other.close()
    made.close()


def test_where_not_even_a_dead_letter_is_taken_it_is_held(path, rule):
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER none BEFORE INSERT ON dead_letters BEGIN SELECT raise(ABORT, 'no'); END"
    )
    link.close()
    with pytest.raises(StoreError, match="not even a dead letter") as caught:
        store_each(path, [single("t", IDS.new(), TIME, b"bad")])
    assert not isinstance(caught.value, UnstorableError)


def test_a_number_that_the_ledger_stumbles_over_costs_no_message(path, monkeypatch):
    """The message is stored; only what came with it is left out."""
    message = single("t", IDS.new(), TIME, b"x")
    numbered = type(message)(
        message.topic, message.kind, message.id, TIME, 1, 1, b"x", '["0123456789abcdef",1,0,[]]'
    )

    def stumble(*_):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    monkeypatch.setattr(Ledger, "record", stumble)
    store_each(path, [numbered])
    assert ask(path, "SELECT body FROM messages") == [("x",)]
    assert ask(path, "SELECT * FROM dead_letters") == []


# --- reading and removing


def test_pieces_hold_every_letter_there_was_once(path, letters):
    store(path, *(letter(b"%d" % n * 50_000) for n in range(40)))
    for choice in (Choice(), Choice(after=0)):
        pieces = list(letters.pieces(choice))
        assert len(pieces) > 3
        seqs = [row.seq for piece in pieces for row in piece]
        assert sorted(seqs) == list(range(1, 41))
        assert seqs == sorted(seqs, reverse=choice.after is None)
    assert sum(len(piece) for piece in letters.pieces(Choice(), 7)) == 7


def test_a_long_body_is_left_out_but_can_be_asked_for(path, letters):
    long = b"x" * (SHOWN_BYTES + 1)
    store(path, letter(long))
    (row,) = letters.page(Choice(), 10).rows
    assert (row.size, row.body) == (len(long), None)
    assert letters.body(row.seq) == long
    assert letters.body(99) is None


def test_a_letter_that_died_again_is_not_removed(path, letters):
    """Sent again, it died again before its letter was removed: then it is all there is of it."""
    store(path, letter())
    (row,) = letters.page(Choice(), 1).rows
    link = connect(path, readonly=False)
    link.execute("UPDATE dead_letters SET dead_at = '2020-01-01T00:00:00.000Z'")
    link.close()
    read = letters.find(row.seq)
    store(path, letter())
    assert not letters.remove(read)
    assert letters.count(Choice()) == 1
    assert letters.remove(letters.find(row.seq))
    assert not letters.remove(read)
    assert letters.count(Choice()) == 0


# --- redriving


@pytest.fixture
def redriver(letters):
    sent = []
    config = configuration.load({"APPLIANCE_MAX_MESSAGE_BYTES": "10"})
    made = Redriver(config, letters, sent.append)
    made.sent = sent
    return made


def find(letters, **choice):
    return letters.page(Choice(**choice), 1).rows[0]


def test_a_redrive_that_is_repeated_is_the_same_message(path, letters, redriver):
    store(path, letter(b"one"), letter(b"two"))
    one, two = find(letters, after=0), find(letters)
    for _ in range(2):
        redriver.redrive(one)
    redriver.redrive(one, "elsewhere")
    redriver.redrive(two)
    first, again, elsewhere, other = redriver.sent
    assert first.id == again.id == elsewhere.id != other.id
    assert (first.topic, elsewhere.topic, first.body) == ("t", "elsewhere", b"one")
    assert letters.count(Choice()) == 0


def test_what_the_broker_gave_up_keeps_the_id_that_its_sender_knows(path, letters, redriver):
    message = single("t", IDS.new(), TIME, b"x")
    store(path, DeadEnvelope(message, "broker-expired", ""))
    store(path, letter(b"y", reason="broker-expired"))
    kept, odd = find(letters, after=0), find(letters)
    assert redriver.redrive(kept).id == message.id
    assert redriver.redrive(odd).id != "an id"


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (letter(b""), "no body"),
        (letter(b"x" * 11), "11 bytes"),
        (letter(topic="NO TOPIC"), "topic=NAME"),
    ],
)
def test_what_would_only_die_again_stays(path, letters, redriver, dead, words):
    store(path, dead)
    with pytest.raises(RedriveError, match=words):
        redriver.redrive(find(letters))
    with pytest.raises(TopicError):
        redriver.redrive(find(letters), "NOR THIS")
    assert redriver.sent == []
    assert letters.count(Choice()) == 1


def test_what_is_not_confirmed_stays(path, letters, redriver):
    def refuse(_):
        raise RefusedError("not now")

    store(path, letter())
    redriver._publish = refuse
    for _ in range(5):  # and gives its place back
        with pytest.raises(RefusedError, match="not now"):
            redriver.redrive(find(letters))
    assert letters.count(Choice()) == 1
