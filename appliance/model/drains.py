"""Queues of others whose messages are taken in, as the setting names them. No I/O."""

from typing import Final, NamedTuple

from appliance.errors import TopicError
from appliance.model.topics import check_topic

#: Queues; each has a connection of its own.
_MOST: Final = 20
#: Bytes of a queue's name; AMQP has 255, and a queue of ours is named after it.
_MOST_BYTES: Final = 200
#: How names of the appliance's own queues begin, and of the broker's.
RESERVED: Final = ("appliance.", "amq.")


class DrainedQueue(NamedTuple):
    """A queue that is drained, and the topic that its messages get."""

    queue: str
    topic: str


def parse_drains(text: str) -> tuple[DrainedQueue, ...]:
    """Return the queues of `QUEUE,QUEUE=TOPIC`; raises ValueError in words."""
    found = [_parse(each.strip()) for each in text.split(",") if each.strip()]
    if len({each.queue for each in found}) < len(found):
        raise ValueError("a queue is named twice")
    if len(found) > _MOST:
        raise ValueError(f"{len(found)} queues; {_MOST} can be drained at most")
    return tuple(found)


def _parse(text: str) -> DrainedQueue:
    queue, has_topic, topic = text.partition("=")
    if not queue or len(queue.encode()) > _MOST_BYTES or not queue.isprintable():
        raise ValueError(f"{text!r} names no queue")
    if queue.startswith(RESERVED):
        raise ValueError(f"{queue} is a queue of the appliance or the broker itself")
    try:
        return DrainedQueue(queue, check_topic(topic if has_topic else queue))
    except TopicError as error:
        advice = "" if has_topic else f"; name one: {queue}=TOPIC"
        raise ValueError(f"{error}{advice}") from error
