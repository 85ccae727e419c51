"""The outbox through its face: what is sent when, and how each message is answered."""

import asyncio
import contextlib
from collections import Counter

import pytest

from appliance.broker.publish.frames import FrameWriter
from appliance.broker.publish.numbering import Numbering
from appliance.broker.publish.outbox import Outbox
from appliance.errors import DeadlineError, RefusedError
from appliance.model import ledger
from appliance.model.wire import Envelope, Kind, Message, addressed

TIMEOUT = 5.0
ID, TIME = "01890a5d-ac96-774b-bcce-b302099a8057", "2026-11-21T01:25:21.132Z"


class Desk:
    """An outbox, its numbering and a clock that stands still."""

    def __init__(self):
        self.now = 1000.0
        self.numbering = Numbering()
        self.outbox = Outbox(self.numbering, TIMEOUT, lambda: self.now)
        self.loop = asyncio.new_event_loop()

    def add(self, topic="t", body=b"x", expires_at=None) -> asyncio.Future:
        waiter = self.loop.create_future()
        self.outbox.add(topic, Message(ID, TIME, body), waiter, expires_at)
        return waiter

    def add_batch(self, bodies, topic="t") -> asyncio.Future:
        waiter = self.loop.create_future()
        messages = [Message(f"{ID[:28]}{n:08x}", TIME, body) for n, body in enumerate(bodies)]
        self.outbox.add_batch(topic, messages, waiter)
        return waiter

    def send(self, topic="t", body=b"x") -> asyncio.Future:
        """Add a message that is sent at once, in an envelope of its own."""
        waiter = self.add(topic, body)
        assert len(self.topics()) == 1
        return waiter

    def topics(self) -> list[str]:
        """Send what can be sent; return the topics in that order."""
        return [parcel.sealed().topic for parcel in self.outbox.next()]

    def ended(self) -> tuple[int, int]:
        return self.outbox.held_requests, self.outbox.held_bytes


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.loop.close()


def answer(waiter) -> str:
    """Return how a message was answered."""
    if not waiter.done():
        return "waits"
    error = waiter.exception()
    return "kept" if error is None else type(error).__name__


def test_a_batch_that_comes_alone_is_an_envelope_of_lines(desk):
    desk.add_batch([b"a", b"b"])
    (parcel,) = desk.outbox.next()
    envelope = parcel.sealed()
    assert (envelope.kind, envelope.body, envelope.count) == (Kind.LINES, b'["a","b"]', 2)
    assert (envelope.id, envelope.size) == (f"{ID[:28]}00000000", 2)


@pytest.mark.parametrize(("topic", "kind"), [("t", Kind.PACK), ("u", Kind.MIXED)])
def test_a_batch_shares_an_envelope_with_what_comes_in_the_same_turn(desk, topic, kind):
    for before in ("message", "batch", None):
        waiters = [] if before is None else [
            desk.add(topic, b"0") if before == "message" else desk.add_batch([b"0"], topic)
        ]  # fmt: skip
        waiters += [desk.add_batch([b"1", b"2"]), desk.add(topic, b"3"), desk.add_batch([b"4"])]
        (parcel,) = desk.outbox.next()
        envelope = parcel.sealed()
        assert envelope.kind is kind
        bodies = [message.body for _, message in addressed(envelope)]
        assert bodies == ["0", "1", "2", "3", "4"][before is None :]
        desk.outbox.confirm(desk.outbox.oldest(), multiple=False)
        assert [answer(waiter) for waiter in waiters] == ["kept"] * len(waiters)
        assert desk.ended() == (0, 0)


def test_messages_that_end_share_envelopes_with_those_of_their_topic_that_end(desk):
    for _ in range(4):
        desk.send()  # from now on messages are gathered
    early, late = "2026-11-21T01:30:00.000Z", "2026-11-21T02:30:00.000Z"
    for topic, body, expires_at in [
        ("t", b"1", early), ("t", b"2", late), ("t", b"3", early), ("t", b"4", None),
        ("t", b"5", None), ("u", b"6", early), ("t", b"7", early), ("t", b"8", late),
    ]:  # fmt: skip
        desk.add(topic, body, expires_at)
    desk.add_batch([b"9"])
    found = []
    while desk.outbox.oldest():
        desk.outbox.confirm(desk.outbox.oldest(), multiple=False)
        for parcel in desk.outbox.next():
            envelope = parcel.sealed()
            bodies = "".join(str(message.body) for _, message in addressed(envelope))
            found.append((envelope.kind, bodies, envelope.expires_at))
    assert found == [
        (Kind.PACK, "123", late), (Kind.PACK, "45", None), (Kind.MESSAGE, "6", early),
        (Kind.PACK, "78", late), (Kind.LINES, "9", None),
    ]  # fmt: skip


def test_a_batch_is_whole_in_one_envelope(desk):
    for _ in range(4):
        desk.send()  # from now on messages are gathered
    for _ in range(10):
        desk.add_batch([b"x"] * 60)
    desk.outbox.confirm(4, multiple=True)
    counts = []
    while parcels := list(desk.outbox.next()):
        counts += [parcel.sealed().count for parcel in parcels]
        desk.outbox.confirm(desk.outbox.oldest(), multiple=True)
    assert counts == [480, 120]
    assert all(count % 60 == 0 for count in counts)


def test_messages_of_one_turn_share_an_envelope_whatever_their_topics(desk):
    for topic, body in zip("abab", (b"1", b"2", b"3", b"4"), strict=True):
        desk.add(topic, body)
    (parcel,) = desk.outbox.next()
    envelope = parcel.sealed()
    assert (envelope.kind, envelope.count, parcel.number) == (Kind.MIXED, 4, 1)
    assert (envelope.topic, envelope.further_topics) == ("a", ("b",))
    assert [(topic, message.body) for topic, message in addressed(envelope)] == [
        ("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"),
    ]  # fmt: skip
    assert desk.topics() == []


def test_messages_of_one_topic_need_not_name_it_each(desk):
    desk.add()
    desk.add()
    (parcel,) = desk.outbox.next()
    assert (parcel.sealed().kind, parcel.sealed().further_topics) == (Kind.PACK, ())


def test_messages_behind_four_unconfirmed_requests_are_gathered(desk):
    unconfirmed = [desk.send() for _ in range(4)]
    gathered = [desk.add() for _ in range(3)]
    gathered.append(desk.add("other"))
    assert desk.topics() == []
    desk.outbox.confirm(1, multiple=False)
    assert answer(unconfirmed[0]) == "kept"
    (parcel,) = desk.outbox.next()
    assert parcel.sealed().count == 4
    desk.outbox.confirm(5, multiple=True)
    assert Counter(map(answer, unconfirmed + gathered)) == {"kept": 8}
    assert desk.ended() == (0, 0)


@pytest.mark.parametrize("outcome", ["confirm", "refuse"])
def test_the_next_envelope_can_be_sent_before_the_answers_to_the_last_one(desk, outcome):
    unconfirmed = [desk.send() for _ in range(4)]
    desk.add("next")
    told, sent = [], []

    def send() -> None:
        told.extend(map(answer, unconfirmed))
        sent.extend(parcel.sealed().topic for parcel in desk.outbox.next())

    getattr(desk.outbox, outcome)(4, multiple=True, room_made=send)
    assert (told, sent) == (["waits"] * 4, ["next"])
    assert "waits" not in map(answer, unconfirmed)


def test_an_envelope_is_not_shared_and_keeps_its_place(desk):
    envelope = Envelope("t", Kind.MESSAGE, "id", "time", 1, 1, b"z")
    desk.add(body=b"a")
    desk.outbox.add_envelope(envelope, desk.loop.create_future())
    desk.add(body=b"b")
    assert [parcel.sealed().body for parcel in desk.outbox.next()] == [b"a", b"z", b"b"]


def test_a_gathered_envelope_ends_where_it_would_grow_too_large(desk):
    for _ in range(4):
        desk.send()
    for _ in range(3):
        desk.add(body=b"x" * 150 * 1024)
    for _ in range(600):
        desk.add("many")
    counts = []
    for tag in range(4, 9):
        desk.outbox.confirm(tag, multiple=True)
        counts += [parcel.sealed().count for parcel in desk.outbox.next()]
    # Three fill an envelope, and what comes then starts the next one.
    assert counts == [1, 1, 512, 89]


def test_a_gathered_envelope_names_no_more_topics_than_fit_into_a_frame(desk):
    for number in range(600):
        desk.add(f"{number:0100}")
    sent = []
    while parcels := list(desk.outbox.next()):
        sent += [parcel.sealed() for parcel in parcels]
        desk.outbox.confirm(len(sent), multiple=True)
    assert [envelope.count for envelope in sent] == [256, 256, 88]
    head, *_ = FrameWriter(1, 2**17, "appliance", "app").frames(
        sent[0].topic, "appliance.mixed", sent[0].id, {"CC": sent[0].further_topics}, b""
    )
    assert len(head) < 2**16


def test_the_window_bounds_unconfirmed_bytes(desk):
    big = Envelope("t", Kind.MESSAGE, "id", "time", 1, 2**24, b"x" * 2**24)
    for _ in range(3):
        desk.outbox.add_envelope(big, desk.loop.create_future())
    assert len(desk.topics()) == 2
    desk.outbox.confirm(1, multiple=False)
    assert len(desk.topics()) == 1


def test_more_than_the_outbox_can_hold_is_refused_at_once(desk):
    body = b"x" * 2**20
    waiters = [desk.add(body=body) for _ in range(64)]
    with pytest.raises(RefusedError, match="too much waits"):
        desk.add(body=body)
    desk.now += TIMEOUT
    desk.outbox.expire("it is slow")
    assert {answer(waiter) for waiter in waiters} == {"RefusedError"}
    assert desk.ended() == (0, 0)
    desk.add(body=body)  # there is room again


def test_requests_are_bounded_too(desk):
    for _ in range(50_000):
        desk.add(body=b"")
    with pytest.raises(RefusedError, match="too much waits"):
        desk.add(body=b"")


def test_a_message_past_its_deadline_is_answered_and_a_younger_one_waits(desk):
    late = desk.send("a")
    desk.now += 3
    younger = desk.send("b")
    desk.now += 2
    desk.outbox.expire("it is slow")
    with pytest.raises(DeadlineError, match="not confirmed within 5 s: it may have been kept or"):
        late.result()
    assert answer(younger) == "waits"


def test_a_message_that_was_never_sent_is_refused_with_the_reason_and_has_no_number(desk):
    waiter = desk.add()
    desk.now += TIMEOUT
    desk.outbox.expire("no broker")
    with pytest.raises(RefusedError, match=r"took nothing within 5 s \(no broker\); nothing was"):
        waiter.result()
    assert desk.numbering.entry().settled == desk.numbering.last_number == 0
    assert desk.topics() == []


def test_unconfirmed_parcels_are_sent_again_in_front_and_in_order(desk):
    for body in (b"1", b"2", b"3"):
        desk.send(body=body)
    desk.add(body=b"4")
    desk.outbox.lose()
    parcels = list(desk.outbox.next())
    assert [(p.sealed().body, p.number) for p in parcels] == [
        (b"1", 1), (b"2", 2), (b"3", 3), (b"4", 4),
    ]  # fmt: skip


def test_a_parcel_that_was_put_back_takes_no_more_messages(desk):
    desk.send(body=b"1")
    desk.outbox.lose()
    desk.add(body=b"2")
    assert [parcel.sealed().body for parcel in desk.outbox.next()] == [b"1", b"2"]


def test_a_refusal_is_certain_only_where_no_earlier_copy_may_have_arrived(desk):
    waiter = desk.send()
    desk.outbox.refuse(1, multiple=False)
    with pytest.raises(RefusedError, match="the queue is full; nothing was kept"):
        waiter.result()
    waiter = desk.send()
    desk.outbox.lose()
    assert desk.topics() == ["t"]
    desk.outbox.refuse(1, multiple=False)
    with pytest.raises(DeadlineError, match="may have been kept or not"):
        waiter.result()
    assert desk.numbering.entry().not_kept == [[1, 2]]


def test_a_message_that_is_given_up_is_settled_and_one_that_may_still_come_is_not(desk):
    confirmed, late = desk.send(), desk.send()
    desk.outbox.confirm(1, multiple=False)
    assert answer(confirmed) == "kept"
    desk.now += TIMEOUT
    desk.outbox.expire("it is slow")
    assert answer(late) == "DeadlineError"
    waiting = desk.send()
    assert desk.numbering.entry().settled == 1  # number 2 may still be confirmed
    desk.outbox.lose()
    assert (desk.numbering.settled, desk.numbering.entry().not_kept) == (2, [[2, 2]])
    desk.now += TIMEOUT
    desk.outbox.expire("it is slow")
    assert answer(waiting) == "DeadlineError"  # it was sent on the connection that was lost
    assert (desk.numbering.settled, desk.numbering.entry().not_kept) == (3, [[2, 3]])


def test_each_parcel_carries_the_ledger_entry_of_its_number(desk):
    desk.send()
    desk.outbox.refuse(1, multiple=False)
    desk.add()
    (parcel,) = desk.outbox.next()
    entry = ledger.read(parcel.ledger)
    assert (entry.number, entry.settled, entry.not_kept) == (2, 1, [[1, 1]])
    desk.outbox.confirm(2, multiple=False)
    desk.add()
    (parcel,) = desk.outbox.next()
    assert ledger.read(parcel.ledger) == ledger.LedgerEntry(desk.numbering.source, 3, 2, [])


def test_a_waiter_that_was_cancelled_disturbs_nothing(desk):
    waiter, other = desk.add(), desk.add()
    waiter.cancel()
    assert desk.topics() == ["t"]
    desk.outbox.confirm(1, multiple=False)
    assert answer(other) == "kept"
    assert desk.ended() == (0, 0)


class Resender:
    """A waiter that sends its message again when it is told that it isn't kept."""

    def __init__(self, desk):
        self._desk = desk
        self.again = None

    def done(self):
        return False

    def set_exception(self, _):
        self.again = self._desk.add()


def test_a_message_that_a_waiter_adds_has_a_deadline_of_its_own(desk):
    resender = Resender(desk)
    desk.outbox.add_envelope(Envelope("t", Kind.MESSAGE, ID, TIME, 1, 1, b"x"), resender)
    other = desk.add()  # takes more messages still when the first is past its deadline
    desk.now += TIMEOUT
    desk.outbox.expire("no broker")
    assert [answer(other), answer(resender.again)] == ["RefusedError", "waits"]
    assert desk.topics() == ["t"]
    desk.outbox.confirm(1, multiple=False)
    assert answer(resender.again) == "kept"
    assert desk.ended() == (0, 0)


def test_tags_that_are_not_known_are_ignored(desk):
    desk.outbox.confirm(7, multiple=False)
    desk.outbox.refuse(7, multiple=True)
    assert desk.topics() == []
    with contextlib.suppress(StopIteration):
        next(desk.outbox.next())
