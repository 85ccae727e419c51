"""Endpoints and what could not be delivered, as administrators and the deliverer keep them."""

from dataclasses import replace

import pytest
from store_contents import many, one

from appliance.errors import ExistsError, LimitError
from appliance.model import timestamps
from appliance.model.conditions import parse_condition
from appliance.model.contents import DeletionMark
from appliance.model.topics import CANARY_TOPIC
from appliance.store.access_rows import Actor, Deed
from appliance.store.deletion_rows import QUEUED, DeletionRow, Selection
from appliance.store.endpoint_rows import (
    GIVEN_UP,
    GONE,
    PAUSED,
    WAITING,
    AttemptRow,
    DeliveryOutcome,
    DueRow,
    EndpointRow,
    EndpointStanding,
    LaneRow,
    Pause,
)
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.sql import endpoint_admin

DEED = Deed(Actor("ann", "::1"), "endpoint-create", "shop")
NEWEST = Span()
AT = "2026-11-28T09:00:00.000Z"
ROW = EndpointRow(
    name="shop",
    url="https://shop.example/hook",
    topics=("orders.*",),
    where=("total>=10",),
    settings={"ordered": True},
    created_at=AT,
    changed_at=AT,
)


@pytest.fixture
def made(store):
    return store.endpoints.create(ROW, ["whsec_new", "whsec_old"], {"x-key": "k"}, 0, DEED)


def attempt(endpoint, seq=1, error=""):
    return AttemptRow(
        0, endpoint.id, seq, f"id-{seq}", "orders.eu", 1, AT, 12, 200, error, "thanks"
    )


def due(endpoint, seq=1, state=WAITING, **changes):
    row = DueRow(
        0, endpoint.id, seq, f"id-{seq}", "orders.eu", state, 1, 100.0, 110.0, 500, "answered 500"
    )
    return row._replace(**changes)


def test_an_endpoint_is_found_as_it_was_made(store, made):
    assert store.endpoints.find("shop") == made == store.endpoints.all()[0]
    names = ("name", "url", "topics", "where", "settings", "state")
    assert [getattr(made, each) for each in names] == [getattr(ROW, each) for each in names]
    assert (made.cursor, made.own_headers) == (0, ("x-key",))
    outfit = store.deliveries.outfits()[0]
    assert outfit.row == made
    assert outfit.secrets == ("whsec_new", "whsec_old")
    assert outfit.headers == (("x-key", "k"),)


def test_an_endpoint_has_a_name_of_its_own(store, made):
    with pytest.raises(ExistsError):
        store.endpoints.create(ROW, ["whsec_b"], {}, None, DEED)


def test_an_endpoint_begins_now_unless_it_is_told_where(store, writer):
    writer.store([one(topic="orders.eu") for _ in range(3)])
    now = store.endpoints.create(ROW, ["whsec_a"], {}, None, DEED)
    again = store.endpoints.create(replace(ROW, name="b"), ["whsec_a"], {}, 1, DEED)
    assert (now.cursor, again.cursor) == (3, 1)
    assert store.endpoints.backlog(now)[:2] == (0, None)
    assert store.endpoints.backlog(again).behind == 2


def test_an_endpoint_is_behind_by_the_messages_of_its_topics(store, writer, made):
    """Whatever comes for others, and before the first of its own."""
    soon, later = "2026-11-28T09:01:00.000Z", "2026-11-28T09:02:00.000Z"
    writer.store([one(topic="mail") for _ in range(5)])
    assert store.endpoints.backlog(made)[:2] == (0, None)
    writer.store([one(topic="orders.us", time=soon), one(topic="orders.eu", time=later)])
    writer.store([one(topic="mail"), one(topic="orders.eu", time=later)])
    assert store.endpoints.backlog(made)[:2] == (3, soon)
    assert store.endpoints.backlog(replace(made, cursor=6))[:2] == (2, later)
    assert store.endpoints.backlog(replace(made, cursor=9))[:2] == (0, None)
    every = replace(made, topics=("*",), cursor=6)
    assert store.endpoints.backlog(every)[:2] == (3, later)


def test_messages_of_some_topics_are_counted_up_to_a_bound(store, writer, made, monkeypatch):
    monkeypatch.setattr(endpoint_admin, "MOST_BEHIND", 4)
    for topic in ("orders.eu", "orders.us"):
        writer.store([one(topic=topic) for _ in range(3)])
    assert store.endpoints.backlog(made).behind == 4


def test_an_endpoint_that_is_changed_is_tried_at_once(store, made):
    store.deliveries.store(
        DeliveryOutcome(standings={made.id: EndpointStanding(0, 7, 5.0, 9.0, "down")})
    )
    assert store.endpoints.find("shop").trouble == "down"
    row = replace(made, url="https://other.example/", topics=("*",), where=())
    changed = store.endpoints.update(row, {"x-other": "o"}, DEED)
    assert (changed.url, changed.topics, changed.where) == (row.url, ("*",), ())
    assert (changed.failures, changed.broken_at, changed.retry_at, changed.trouble) == (
        0, None, None, "",
    )  # fmt: skip
    assert changed.own_headers == ("x-other",)
    assert store.endpoints.update(replace(row, name="none"), None, DEED) is None


def test_a_paused_endpoint_gets_nothing_until_it_is_resumed(store, made):
    outgoing = store.deliveries
    outgoing.store(
        DeliveryOutcome(
            due=[due(made, due_at=2.0**40)],
            lanes=[LaneRow(made.id, "orders.eu", 1, 2, 3.0, 2.0**40, "")],
        )
    )
    assert store.endpoints.pause("shop", "too loud", DEED)
    assert not outgoing.has_active()
    assert outgoing.outfits() == []
    assert store.endpoints.find("shop").reason == "too loud"
    assert store.endpoints.resume("shop", DEED)
    assert outgoing.has_active()
    assert outgoing.next_due(made.id) < 2**39
    assert outgoing.lanes(made.id)[0].due_at < 2**39
    assert not store.endpoints.pause("none", "", DEED)


def test_secrets_overlap_and_the_last_one_stays(store, made):
    old = made.signing_secrets
    added = store.endpoints.add_secret("shop", "whsec_third", None, DEED)
    assert store.deliveries.outfits()[0].secrets == ("whsec_third", "whsec_new", "whsec_old")
    for secret in old:
        assert store.endpoints.remove_secret("shop", secret.id, DEED)
    with pytest.raises(LimitError):
        store.endpoints.remove_secret("shop", added, DEED)
    store.endpoints.add_secret("shop", "whsec_fourth", "2020-01-01T00:00:00.000Z", DEED)
    assert store.deliveries.outfits()[0].secrets == ("whsec_fourth",)
    assert store.endpoints.add_secret("none", "whsec_a", None, DEED) is None


def test_an_endpoint_goes_with_all_that_waits_for_it(store, made):
    outcome = DeliveryOutcome(
        due=[due(made)], lanes=[LaneRow(made.id, "orders.eu", 1, 2, 3.0, 4.0, "")]
    )
    store.deliveries.store(outcome)
    assert store.endpoints.remove("shop", DEED)
    store.deliveries.store(outcome)  # of an attempt that was under way
    assert store.endpoints.find("shop") is None
    assert store.deliveries.unfinished(made.id) == 0
    assert store.deliveries.lanes(made.id) == []
    assert not store.endpoints.remove("shop", DEED)


def test_an_outcome_is_stored_and_counted(store, made):
    outgoing = store.deliveries
    outgoing.store(
        DeliveryOutcome(
            attempts=[attempt(made, 1), attempt(made, 2, "answered 500")],
            standings={made.id: EndpointStanding(2, 1, delivered=1, failed=1, delivered_at=AT)},
            due=[due(made, 2)],
        )
    )
    outgoing.store(DeliveryOutcome(standings={made.id: EndpointStanding(3, delivered=1)}))
    row = store.endpoints.find("shop")
    assert (row.cursor, row.failures, row.delivered, row.failed) == (3, 0, 2, 1)
    assert row.delivered_at == AT
    newest, oldest = store.endpoints.attempts(NEWEST, 10, name="shop")
    assert (newest.seq, newest.error, oldest.seq) == (2, "answered 500", 1)
    assert store.endpoints.attempts(Span(after=0), 1, name="shop") == [oldest]
    assert store.endpoints.attempts(NEWEST, 10, name="none") == []
    (waiting,) = outgoing.due(made.id, 110.0, 10)
    assert outgoing.due(made.id, 109.0, 10) == []
    outgoing.store(DeliveryOutcome(done=[waiting.id]))
    assert outgoing.next_due(made.id) is None


def test_the_attempts_of_a_message_are_found_by_its_id(store, made, writer):
    content = one()
    writer.store([content])
    store.deliveries.store(DeliveryOutcome(attempts=[attempt(made, 1)]))
    assert len(store.endpoints.attempts(NEWEST, 10, message_id=content.id)) == 1
    assert store.endpoints.attempts(NEWEST, 10, message_id="none") == []


def test_messages_that_were_given_up_are_redriven_or_discarded(store, made):
    rows = [due(made, 1), due(made, 2, GIVEN_UP, due_at=None), due(made, 3, GONE, due_at=None)]
    store.deliveries.store(DeliveryOutcome(due=rows))
    of = {row.state: row.id for row in store.endpoints.due("shop", None, NEWEST, 10)}
    assert store.endpoints.backlog(made)[2:] == (1, 1, 1, 0)
    assert store.endpoints.redrive("shop", [of[WAITING], of[GONE]], DEED) == 0
    assert store.endpoints.redrive("shop", [of[GIVEN_UP]], DEED) == 1
    again = next(row for row in store.endpoints.due("shop", WAITING, NEWEST, 10) if row.seq == 2)
    assert (again.attempts, again.due_at > 10**9) == (0, True)
    assert store.endpoints.discard("shop", None, DEED) == 1  # what is gone
    assert store.endpoints.discard("shop", [again.id], DEED) == 1
    # Its attempt was under way: what came of it changes nothing any more.
    store.deliveries.store(DeliveryOutcome(due=[again._replace(attempts=9)]))
    assert [row.seq for row in store.endpoints.due("shop", None, NEWEST, 10)] == [1]


def test_an_endpoint_that_the_appliance_pauses_says_why(store, made):
    store.deliveries.store(DeliveryOutcome(pauses=[Pause(made.id, "it answered 410")]))
    row = store.endpoints.find("shop")
    assert (row.state, row.reason) == (PAUSED, "it answered 410")


def test_a_part_has_what_is_wanted_and_ends_where_it_looked(store, writer):
    writer.store([one(topic="orders.eu") for _ in range(4)])
    writer.store([one(topic="other") for _ in range(4)])
    part = store.deliveries.part
    everything = MessageFilter(topics=("*",))
    assert [row.seq for row in part(everything, 0, 8, 3, 10**6).rows] == [1, 2, 3]
    assert part(everything, 0, 8, 3, 10**6).end == 3
    assert part(everything, 0, 8, 100, 1).end == 1  # as many as there is room for, one at least
    assert part(MessageFilter(topics=("ord*",)), 2, 8, 100, 10**6)[1] == 8
    assert [r.seq for r in part(MessageFilter(topics=("ord*",)), 2, 8, 9, 10**6).rows] == [3, 4]
    assert [r.seq for r in part(MessageFilter(topics=("other",)), 2, 7, 9, 10**6).rows] == [5, 6, 7]
    nothing = MessageFilter(topics=("*",), where=(parse_condition("a=1"),))
    assert part(nothing, 0, 8, 9, 10**6) == ([], 8)
    assert [row.seq for row in store.deliveries.messages([7, 99, 2])] == [2, 7]


def test_canaries_go_to_who_asks_for_their_topic(store, writer):
    writer.store([one(topic=CANARY_TOPIC), one(topic="orders")])
    part = store.deliveries.part
    for topics in (("*",), ("a*", "o*")):
        rows = part(MessageFilter(topics=topics), 0, 2, 9, 10**6).rows
        assert [row.seq for row in rows] == [2]
    rows = part(MessageFilter(topics=(CANARY_TOPIC,)), 0, 2, 9, 10**6).rows
    assert [row.seq for row in rows] == [1]


@pytest.mark.parametrize("topics", [("other",), ("o*",), ("*",)])
def test_a_part_looks_through_so_many_messages_and_no_more(store, writer, topics):
    """Else a condition that few messages fulfil would hold everything up."""
    writer.store([many([b'{"n":%d}' % number for number in range(1200)], "other")])
    rare = MessageFilter(topics=topics, where=(parse_condition("n=1100"),))
    ends, found = [0], []
    while ends[-1] < 1200:
        rows, end = store.deliveries.part(rare, ends[-1], 1200, 9, 10**6)
        ends.append(end)
        found += [row.seq for row in rows]
    assert (ends, found) == ([0, 500, 1000, 1200], [1101])


def test_attempts_are_bounded_in_number_and_age(store, made):
    store.deliveries.store(DeliveryOutcome(attempts=[attempt(made, seq) for seq in range(1, 11)]))
    assert store.deliveries.sweep(4, "2020-01-01") is False
    assert [row.seq for row in store.endpoints.attempts(NEWEST, 99)] == [10, 9, 8, 7]
    store.deliveries.sweep(4, "2030-01-01")
    assert store.endpoints.attempts(NEWEST, 99) == []


def test_a_change_is_seen_once(store, made, writer):
    outgoing = store.deliveries
    assert outgoing.is_changed()
    assert not outgoing.is_changed()
    writer.store([one()])
    assert outgoing.is_changed()
    assert not outgoing.is_changed()


def test_messages_deleted_before_their_turn_are_counted(store, writer, made):
    ahead = replace(ROW, name="ahead", topics=("*",))
    store.endpoints.create(ahead, ["whsec_a"], {}, 9, DEED)
    for topic in ("orders.eu", "other"):
        writer.store([one(topic=topic) for _ in range(4)])
    store.deliveries.store(DeliveryOutcome(standings={made.id: EndpointStanding(1)}))
    for number, topic in enumerate(("orders.eu", "other")):
        row = DeletionRow(
            f"d{number}", QUEUED, Selection(topic=topic), timestamps.now(), DEED.by, 0, 0, 0, None
        )
        store.deletions.ask(row, DEED)
        writer.store([DeletionMark(row.id)])
    store.deletions.work(lambda _: False)
    assert store.reader.totals().messages == 0
    assert store.endpoints.find("shop").gone == 3
    assert store.endpoints.find("ahead").gone == 0
