"""The stock of a courier, over a real database: when there is something, and when to look again."""

import asyncio
import math
import time

import pytest
import structlog
from delivery_rows import SECRET, URL, due
from store_contents import many

from appliance import config as configuration
from appliance.deliver import stock
from appliance.deliver.delivery_plan import plan
from appliance.deliver.stock import CourierBegin, Stock
from appliance.machine.complaint import Complaint
from appliance.model import timestamps
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoint_rows import DeliveryOutcome, EndpointRow, EndpointStanding
from appliance.store.sqlite.database import connect

DEED = Deed(Actor("test", ""), "endpoint-create", "shop")


class Desk:
    """Reads at once; there is as much room as a test says."""

    is_held = False

    def __init__(self, store):
        self.deliveries = store.deliveries
        self.end = store.deliveries.end()
        self.left = 2**20

    async def ask(self, work):
        return work(self.deliveries)

    def room(self):
        return self.left


class Shop:
    """A database with 1,000 messages, and the stock of an endpoint that gets all of them."""

    def __init__(self, folder):
        values = {"APPLIANCE_DATA": str(folder), "APPLIANCE_MIN_FREE_BYTES": "0"}
        self.store = open_store(configuration.load(values))
        self.store.migrate()
        writer = self.store.open_writer()
        writer.store([many([b"%d" % n for n in range(1000)])])
        writer.close()
        row = EndpointRow(
            name="shop", url=URL, topics=("*",), where=(), settings={"concurrency": 4},
            created_at=timestamps.now(), changed_at=timestamps.now(),
        )  # fmt: skip
        self.number = self.store.endpoints.create(row, [SECRET], {}, 0, DEED).id
        self.desk = Desk(self.store)
        self.outfit = self.store.endpoints.outfit("shop")

    def stock(self, unfinished=0):
        begin = CourierBegin([], unfinished, frozenset())
        log = structlog.get_logger(__name__)
        crowded = Complaint(log, "too much undelivered", "takes messages again")
        return Stock(plan(self.outfit), self.desk, begin, lambda _: None, crowded)

    def wait(self, count):
        """Let the first messages wait for another attempt, which is due."""
        link = connect(self.store.path, readonly=False)
        rows = link.execute("SELECT seq FROM messages ORDER BY seq LIMIT ?", (count,)).fetchall()
        link.close()
        rows = [due(self.number, "waiting", seq, due_at=1.0) for (seq,) in rows]
        standings = {self.number: EndpointStanding(0)}
        self.desk.deliveries.store(DeliveryOutcome(due=rows, standings=standings))

    def close(self):
        self.store.reader.close()


@pytest.fixture
def shop(tmp_path):
    one = Shop(tmp_path)
    yield one
    one.close()


def taken(made, most=10**9):
    """Take jobs until there is none for now, or `most`."""

    async def take():
        jobs = []
        while len(jobs) < most and (job := await made.next(time.time())) is not None:
            jobs.append(job)
        return jobs

    return asyncio.run(take())


def test_a_stock_with_more_to_read_is_asked_again_at_once(shop):
    made = shop.stock()
    assert taken(made, 1)
    assert made.next_at == 0.0


def test_a_stock_with_too_much_undelivered_is_not_asked_again_before_some_is_settled(
    shop, monkeypatch
):
    """It has read some messages, and has more to read, when the bound is reached."""
    monkeypatch.setattr(stock, "MOST_UNFINISHED", 3)
    made = shop.stock(unfinished=2)
    (job,) = taken(made, 1)
    made.put_back(job)
    made.unfinished += 1
    assert taken(made) == []
    assert made.next_at == math.inf
    made.settle([1])
    assert taken(made, 1) == [job]


def test_rows_that_are_due_are_tried_however_much_is_undelivered(shop, monkeypatch):
    monkeypatch.setattr(stock, "MOST_UNFINISHED", 3)
    shop.wait(1)
    made = shop.stock(unfinished=3)
    (job,) = taken(made)
    assert job.due is not None


def test_rows_that_are_due_are_not_looked_for_before_there_is_room_to_read_them(shop):
    """What is in hand makes room when it ends; to ask a thousand times a second makes none."""
    shop.wait(1)
    shop.desk.end = 0
    made = shop.stock(unfinished=1)
    (job,) = taken(made)
    assert job.due is not None
    shop.desk.left = 0
    made.look_for_due()
    assert taken(made) == []
    assert made.next_at == math.inf
    made.let_go(job)
    assert made.next_at == 0.0
