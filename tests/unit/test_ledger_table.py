"""The ledger in the table `sources`; `tests/store` holds every engine's ledger to the contract."""

import random
from dataclasses import replace

import orjson
import pytest
from ready_made import migrate

from appliance.broker.publish.numbering import Numbering
from appliance.errors import StoreError, UnstorableError
from appliance.model import ledger, ledger_accounting
from appliance.model.contents import LedgerReport
from appliance.model.ids import IdSource
from appliance.model.timestamps import timestamp
from appliance.model.wire import Envelope, single
from appliance.store.sql import ledger_table
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.writer import SqliteWriter

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()
SOURCE = "0123456789abcdef"


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def writer(path):
    made = SqliteWriter(path)
    yield made
    made.close()


@pytest.fixture
def source_rows(path):
    link = connect(path, readonly=True)
    columns = "source, accounted, settled, not_kept, missing"
    yield lambda: link.execute(f"SELECT {columns} FROM sources ORDER BY first_at").fetchall()
    link.close()


def entry(number, settled=0, not_kept=(), source=SOURCE):
    return ledger.LedgerEntry(source, number, settled, list(not_kept)).encode()


def envelope(*entry_values, **more):
    made = single("t", IDS.new(), TIME, b"x")
    return Envelope(made.topic, made.kind, made.id, TIME, 1, 1, b"x", entry(*entry_values, **more))


def test_a_source_that_came_in_order_is_one_row_with_one_range(writer, source_rows):
    for number in range(1, 30):
        assert writer.store([envelope(number, number - 1)]) == 0
    assert source_rows() == [(SOURCE, "[[1,29]]", 28, 0, 0)]


def test_a_source_bears_the_times_of_its_envelopes(writer, path):
    times = [timestamp(1.7e9 + n) for n in range(3)]
    for number, time in enumerate(times, 1):
        writer.store([replace(envelope(number), received_at=time)])
    writer.store([LedgerReport(entry(None, 3).encode())])
    link = connect(path, readonly=True)
    ((first, last),) = link.execute("SELECT first_at, last_at FROM sources").fetchall()
    link.close()
    assert first == times[0]
    assert last > times[2]  # the report has no time of its own


def test_a_transaction_that_fails_accounts_for_nothing(writer, source_rows, path):
    link = connect(path, readonly=False)
    link.execute("CREATE TRIGGER no BEFORE INSERT ON sources BEGIN SELECT raise(FAIL, 'no'); END")
    with pytest.raises(Exception, match="no"):
        writer.store([envelope(1)])
    writer.close()
    assert source_rows() == []
    assert link.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    link.close()


@pytest.mark.parametrize("text", ["", "x", "5", "[5]", "[[1]]", '[["a","b"]]', "{}"])
def test_a_row_that_somebody_wrote_into_stops_no_message(writer, source_rows, path, text):
    writer.store([envelope(1)])
    link = connect(path, readonly=False)
    link.execute("UPDATE sources SET accounted = ?", (text,))
    assert writer.store([envelope(5, 4)]) == 0  # for want of knowing better
    assert writer.store([envelope(7, 6)]) == 1
    assert source_rows() == [(SOURCE, "[[1,5],[7,7]]", 6, 0, 1)]
    assert link.execute("SELECT count(*) FROM messages").fetchone() == (3,)
    link.close()


def test_a_table_that_is_gone_is_no_messages_fault(writer, path):
    link = connect(path, readonly=False)
    link.execute("ALTER TABLE sources RENAME TO other")
    with pytest.raises(StoreError, match="no such table") as caught:
        writer.store([envelope(1)])
    assert not isinstance(caught.value, UnstorableError)
    link.close()


def test_a_source_with_very_many_gaps_is_bounded_and_they_stay_counted(
    writer, source_rows, monkeypatch
):
    monkeypatch.setattr(ledger_accounting, "_MAX_RANGES", 10)
    for number in range(2, 102, 2):  # 1, 3, 5 ... 99 never come
        writer.store([envelope(number, number - 1)])
    ((_, accounted, settled, _, missing),) = source_rows()
    assert len(orjson.loads(accounted)) == 10
    assert (settled, missing) == (99, 50)


def test_accepted_envelopes_are_noted_in_their_row(writer, source_rows, path):
    writer.store([envelope(4, 3), envelope(9, 4)])
    link = connect(path, readonly=False)
    assert ledger_table.accept_missing(link) == 3
    assert ledger_table.accept_missing(link) == 0
    assert source_rows() == [(SOURCE, "[[1,4],[9,9]]", 4, 0, 0)]
    assert link.execute("SELECT accepted FROM sources").fetchone() == (3,)
    assert writer.store([envelope(10, 9)]) == 4
    assert source_rows() == [(SOURCE, "[[1,4],[9,10]]", 9, 0, 4)]
    link.close()


def test_old_sources_are_forgotten_and_those_with_gaps_last(writer, source_rows, monkeypatch):
    monkeypatch.setattr(ledger_table, "_SOURCES", 5)
    writer.store([envelope(3, 2, source="0" * 16)])
    for number in range(1, 20):
        time = timestamp(1.7e9 + number)
        writer.store([replace(envelope(1, source=f"{number:016x}"), received_at=time)])
    found = [(int(row[0], 16), row[-1]) for row in source_rows()]
    assert sorted(found) == [(0, 2), (16, 0), (17, 0), (18, 0), (19, 0)]
    late = replace(envelope(1, source="f" * 16), received_at=timestamp(1.6e9))
    writer.store([late])  # a clock that was set back
    assert writer.store([envelope(2, 1, source="f" * 16)]) == 0


class Broker:
    """A broker in small: it refuses, loses connections and confirmations, and what it confirmed.

    `lost` are the numbers that were confirmed and are gone. What such an envelope told is gone
    with it (`untold`), and may count as missing too: never is too little said.
    """

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.numbering = Numbering()
        self.queue, self.again, self.owed = [], [], []
        self.sent = {}  # number -> whether this copy is in the queue, and what it tells
        self.stored, self.lost, self.untold = set(), set(), set()

    def send(self):
        again = self.again and self.chance.random() < 0.8
        number = self.again.pop(0) if again else self.numbering.next_number()
        text, not_kept = self.numbering.carried(number)
        taken = self.chance.random() < 0.85
        if taken:
            self.queue.append((number, text))
        self.sent[number] = (taken, not_kept)

    def answer(self):
        if not self.sent:
            return
        number = self.chance.choice(list(self.sent))
        taken, told = self.sent.pop(number)
        self.numbering.settle(number, told, kept=taken)
        if taken and number not in self.stored and self.chance.random() < 0.15:  # the disk lied
            self.queue = [pair for pair in self.queue if pair[0] != number]
            self.lost.add(number)
            self.untold |= {n for first, last in told for n in range(first, last + 1)}

    def disconnect(self):
        """End the connection; some of those who wait for an answer wait no more."""
        for number in self.sent:
            if self.chance.random() < 0.3:
                self.numbering.settle(number, [], kept=False)
            else:
                self.again.append(number)
        self.sent = {}

    def deliver(self, writer):
        """Let some be stored, one of them twice, some of them to be accounted for later.

        Unless the worker is killed meanwhile: then they come again, for they aren't acknowledged.
        """
        count = self.chance.randint(0, len(self.queue))
        taken, self.queue = self.queue[:count], self.queue[count:]
        new = [envelope_of(text) for _, text in taken + taken[:1]]
        self.stored |= {number for number, _ in taken}
        if self.chance.random() < 0.4:
            writer.store(new, account=False)
            self.owed += taken
            if self.chance.random() < 0.3:
                self.queue, self.owed = self.owed + self.queue, []
        else:
            writer.store([*(LedgerReport(text, TIME) for _, text in self.owed), *new])
            self.owed = []


@pytest.mark.parametrize("seed", range(60))
def test_missing_envelopes_are_exactly_those_confirmed_and_lost(writer, source_rows, seed):
    broker = Broker(seed)
    moves = [broker.send, broker.answer, broker.disconnect, lambda: broker.deliver(writer)]
    for _ in range(broker.chance.randint(5, 150)):
        broker.chance.choices(moves, (45, 35, 10, 10))[0]()
        assert missing_now(source_rows) <= broker.lost | broker.untold
    for number in [*broker.sent, *broker.again]:
        broker.numbering.settle(number, [], kept=False)
    writer.store([envelope_of(text) for _, text in broker.owed + broker.queue])
    writer.store(
        [LedgerReport(entry.encode().encode()) for entry in broker.numbering.final_entries()]
    )
    missing = missing_now(source_rows)
    assert broker.lost <= missing <= broker.lost | broker.untold
    assert sum(row[-1] for row in source_rows()) == len(missing)


@pytest.mark.parametrize("seed", range(30))
def test_the_short_way_and_the_long_one_write_the_same(writer, path, tmp_path, seed, monkeypatch):
    chance = random.Random(seed)
    groups, number = [], 0
    while number < 60:
        group = []
        for _ in range(chance.randint(1, 5)):
            number += 1
            settled = chance.choice([number - 1, number - 1, max(0, number - 3)])
            group.append(
                entry(number, settled, chance.choice([[], [], [], [[number, number + 1]]]))
            )
            number += chance.choice([0, 0, 0, 1])
        groups.append([envelope_of(text) for text in group])
        if chance.random() < 0.1:
            groups.append([envelope_of(chance.choice(['["x",', "", entry(None, number)]))])
        if chance.random() < 0.1:
            groups.append(groups[-1])
    told = [writer.store(group) for group in groups]
    monkeypatch.setattr(ledger_table.LedgerTable, "_go_on", lambda *_: False)
    migrate(tmp_path / "long.db")
    other = SqliteWriter(tmp_path / "long.db")
    assert [other.store(group) for group in groups] == told
    other.close()
    rows = []
    for each in (path, tmp_path / "long.db"):
        link = connect(each, readonly=True)
        columns = "source, accounted, settled, not_kept, missing"
        rows.append(link.execute(f"SELECT {columns} FROM sources").fetchall())
        link.close()
    assert rows[0] == rows[1] != []


def envelope_of(text):
    made = single("t", IDS.new(), TIME, b"x")
    return Envelope("t", made.kind, made.id, TIME, 1, 1, b"x", text)


def missing_now(source_rows):
    found = set()
    for _, accounted, settled, _, _ in source_rows():
        for first, last in ledger.holes(orjson.loads(accounted), 0, settled):
            found |= set(range(first, last + 1))
    return found


def test_rows_of_sources_that_send_in_turn_are_read_once(path):
    """Several API processes: the row of each is remembered, and not read again and again."""
    link = connect(path, readonly=False)
    statements = []
    link.set_trace_callback(statements.append)
    table = ledger_table.LedgerTable(link)
    names = [f"{n:016x}" for n in range(4)]
    for number in range(1, 6):
        for name in names:
            table.record([(entry(number, number - 1, source=name), TIME)])
    reads = [text for text in statements if text.lstrip().startswith("SELECT")]
    assert len(reads) == len(names)
    link.close()


def test_rows_that_are_remembered_are_bounded(path):
    link = connect(path, readonly=False)
    table = ledger_table.LedgerTable(link)
    for n in range(3 * ledger_table._REMEMBERED):
        table.record([(entry(1, source=f"{n:016x}"), TIME)])
    assert len(table._rows) == ledger_table._REMEMBERED
    table.record([(entry(2, 1, source=f"{0:016x}"), TIME)])  # forgotten, and read again
    row = link.execute("SELECT accounted FROM sources WHERE source = ?", (f"{0:016x}",)).fetchone()
    assert row == ("[[1,2]]",)
    link.close()
