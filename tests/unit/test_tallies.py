"""Tallies of publishers and writers count what happened, once for an envelope or a transaction."""

import re
import time
import uuid
from pathlib import Path

import pytest
from ready_made import migrate

from appliance.broker.publish.numbering import Numbering
from appliance.broker.publish.outbox import Outbox
from appliance.model.contents import DeadLetter
from appliance.model.tallies import BOUNDS, DEAD_REASONS, Histogram, StoreTally
from appliance.model.timestamps import now, seconds_between, timestamp
from appliance.model.wire import Envelope, Kind, Message
from appliance.store.sqlite.writer import SqliteWriter

DURABILITY = Path(__file__).parents[2] / "docs" / "durability.md"


class Waiter:
    """A future that nobody waits for."""

    def done(self):
        return True


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outbox(clock):
    return Outbox(Numbering(), 10.0, clock)


def message(body=b"x"):
    return Message(str(uuid.uuid4()), now(), body)


def envelope(body=b"x", received_at=None, message_id=None):
    message_id = message_id or str(uuid.uuid4())
    return Envelope("t", Kind.MESSAGE, message_id, received_at or now(), 1, len(body), body)


@pytest.fixture
def tally():
    return StoreTally()


@pytest.fixture
def writer(tmp_path, tally):
    migrate(tmp_path / "a.db")
    made = SqliteWriter(tmp_path / "a.db", tally)
    yield made
    made.close()


def test_histogram_has_each_value_in_the_first_bucket_that_holds_it():
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 5.0, 1e9):
        histogram.observe(seconds)
    histogram.observe(0.2, 3)
    assert histogram.buckets[0] == 2
    assert histogram.buckets[1] == 1
    assert histogram.buckets[BOUNDS.index(5.0)] == 1
    assert histogram.buckets[BOUNDS.index(0.25)] == 3
    assert histogram.buckets[-1] == 1
    assert sum(histogram.buckets) == 8
    assert histogram.seconds == pytest.approx(1e9 + 5.6021)


def test_reasons_of_dead_letters_are_those_of_the_docs():
    table = DURABILITY.read_text().partition("| `reason` | cause |")[2].partition("\n\n")[0]
    named = {
        word
        for line in table.splitlines()[2:]
        for word in re.findall(r"`(.+?)`", line[: line.find("|", 2)])
    }
    assert named == DEAD_REASONS


def test_publisher_counts_messages_once_and_envelopes_as_often_as_they_are_sent(outbox, clock):
    for _ in range(3):
        outbox.add("t", message(), Waiter())
    for parcel in outbox.next():
        parcel.sealed()
    outbox.lose()
    assert len(list(outbox.next())) == 1
    clock.seconds = 2.0
    outbox.confirm(1, multiple=False)
    tally = outbox.tally
    assert (tally.accepted, tally.published, tally.confirmed, tally.nacked) == (3, 2, 1, 0)
    assert tally.took.buckets[BOUNDS.index(2.5)] == 3
    assert tally.took.seconds == 6.0


def test_publisher_accepts_nothing_that_was_refused_or_past_its_deadline(outbox, clock):
    outbox.add("t", message(), Waiter())
    [parcel.sealed() for parcel in outbox.next()]
    outbox.refuse(1, multiple=False)
    outbox.add("t", message(), Waiter())
    [parcel.sealed() for parcel in outbox.next()]
    clock.seconds = 11.0
    outbox.expire("it is slow")
    outbox.confirm(2, multiple=False)
    tally = outbox.tally
    assert (tally.accepted, tally.confirmed, tally.nacked) == (0, 1, 1)
    assert sum(tally.took.buckets) == 0


def test_writer_counts_rows_duplicates_and_dead_letters(writer, tally):
    first, other = envelope(), envelope(b"y")
    writer.store([first, other])
    writer.store([first])
    conflict = envelope(b"z", message_id=first.id)
    made_up = DeadLetter("t", "x", now(), b"b", "made-up", "?", meta='{"quarantine":"topic t"}')
    writer.store([conflict, envelope(), made_up])
    assert (tally.stored, tally.duplicates, tally.transactions) == (3, 1, 3)
    assert tally.dead == {"conflict": 1, "other": 1}
    assert tally.quarantined == 1


def test_writer_counts_lines_that_come_again(writer, tally):
    body = b'["a","b","c"]'
    lines = Envelope("t", Kind.LINES, f"{uuid.uuid4()!s:.28}00000000", now(), 3, 3, body)
    writer.store([lines])
    writer.store([lines])
    assert (tally.stored, tally.duplicates) == (3, 3)
    assert sum(tally.lag.buckets) == 6


def test_writer_counts_a_row_that_the_database_refuses_as_dead_alone(writer, tally):
    writer._connection.execute(
        "CREATE TRIGGER no BEFORE INSERT ON messages WHEN NEW.body = 'no' "
        "BEGIN SELECT raise(ABORT, 'no'); END"
    )
    writer.store([envelope(b"a"), envelope(b"no"), envelope(b"b")])
    assert (tally.stored, tally.duplicates, tally.dead) == (2, 0, {"unstorable": 1})


@pytest.mark.parametrize("age", [0.5, 40.0, 2000.0])
def test_writer_knows_how_long_ago_a_message_was_accepted(writer, tally, age):
    moment = timestamp(time.time() - age)
    writer.store([envelope(received_at=moment)])
    assert age <= tally.lag.seconds < age + 2


@pytest.mark.parametrize("moment", ["2026-99-99T99:99:99.999Z", "9999-12-31T23:59:59.999Z"])
def test_time_that_is_none_or_in_the_future_counts_as_now(writer, tally, moment):
    writer.store([envelope(received_at=moment)])
    assert tally.lag.seconds == 0.0
    assert seconds_between(moment, "x") == 0.0


def test_writer_does_not_count_a_transaction_that_is_rolled_back(writer, tally, monkeypatch):
    def broken(*_):
        raise OSError("no")

    monkeypatch.setattr(writer, "_record", broken)
    with pytest.raises(Exception, match="no"):
        writer.store([replace_ledger(envelope())])
    assert (tally.stored, tally.transactions) == (0, 0)


def replace_ledger(one):
    return Envelope(*[getattr(one, n) for n in one.__slots__[:7]], ledger="x")
