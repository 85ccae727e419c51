"""What a store holds, read through its seam: for tests that run on any engine."""

import itertools
from collections import defaultdict

from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource
from appliance.model.wire import Message, batch, mixed, pack, single
from appliance.store.rows import Choice, Window

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


def one(body=b"x", topic="t", time=TIME):
    """An envelope of one message."""
    return single(topic, IDS.new(), time, body)


def many(bodies, topic="t", time=TIME):
    """An envelope of messages that have ids of their own."""
    return pack(topic, [Message(IDS.new(), time, body) for body in bodies], sum(map(len, bodies)))


def scattered(bodies, topics=("t", "u", "v"), time=TIME):
    """An envelope of messages that go to these topics in turn."""
    messages = [Message(IDS.new(), time, body) for body in bodies]
    return mixed(list(zip(itertools.cycle(topics), messages)), sum(map(len, bodies)))


def lines(bodies, topic="t", time=TIME):
    """An envelope of the lines of one batch."""
    return batch(topic, IDS.prefix(), time, bodies)


def letter(body=b"x", topic="t", reason="conflict", message_id="an id"):
    return DeadLetter(topic, message_id, TIME, body, reason, "why")


class Contents:
    """Reads everything in a store."""

    def __init__(self, store):
        self._store = store

    def bodies(self):
        """The bodies of all messages, in the order of storing."""
        return [
            body.encode() if isinstance(body, str) else body for _, _, body in self._store.rows()
        ]

    def messages(self):
        """All messages in the order of storing."""
        reader = self._store.reader
        rows = []
        for topic in reader.topics(limit=10_000):
            for piece in reader.pieces(Window(topic.topic, after=0)):
                rows += piece
        return sorted(rows)

    def counters(self):
        """(topic, messages, bytes, first_at, last_at) as the store counts them."""
        return [tuple(topic) for topic in self._store.reader.topics(limit=10_000)]

    def sums(self):
        """The same, counted from the messages."""
        topics = defaultdict(list)
        for message in self.messages():
            topics[message.topic].append(message)
        return [
            (
                topic,
                len(rows),
                sum(len(row.body) for row in rows),
                min(row.received_at for row in rows),
                max(row.received_at for row in rows),
            )
            for topic, rows in sorted(topics.items())
        ]

    def letters(self):
        """All dead letters in the order of their deaths."""
        return [row for piece in self._store.dead_letters.pieces(Choice(after=0)) for row in piece]

    def dead(self):
        """(topic, id, body, reason) of all dead letters."""
        return [(row.topic, row.id, row.body, row.reason) for row in self.letters()]
