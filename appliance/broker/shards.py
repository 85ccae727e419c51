"""The names of shards: queues that share the messages by topic, each stored by a worker of its own.

With one shard, the default, there is one queue, and nothing of this. With more of them, each topic
belongs to one, so that its order holds. All of this is on the broker:

    appliance -#-> appliance.shards.4 -shard=4.2-> appliance.store.4.2
                                      -(none)----> appliance.shards.4.rest -> appliance.store.4.0

The publisher names the shard in a header; the messages of other clients, which name none, go to the
first shard. Each number of shards has queues of its own. It is in force while its exchange is
there; the one of another number is removed when it comes into force, which closes the queues of
that number: workers store what is left in them before they turn to the new ones.

The publisher chooses, and not an exchange of RabbitMQ's plugin for consistent hashes: so it can put
messages of several topics into one envelope, and number the envelopes of each queue for the ledger.
As the queues of an earlier number are emptied first, it costs nothing that another number sends
most topics elsewhere.
"""

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.broker.base import QUEUE
from appliance.config import SHARD_NUMBERS

#: The exchange that is there once there was more than one shard.
EVER: Final = "appliance.shards"
#: Header of an envelope that names its shard.
HEADER: Final = "shard"


class Shard(NamedTuple):
    """One of `number` shards, which is at `place`, from 0 on."""

    number: int = 1
    place: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether there is no other one."""
        return self.number == 1

    @property
    def queue(self) -> str:
        """Its queue."""
        return QUEUE if self.is_whole else f"{QUEUE}.{self.number}.{self.place}"

    @property
    def label(self) -> str:
        """The header's value; empty where nothing need be said."""
        return "" if self.is_whole else f"{self.number}.{self.place}"


def of_topic(topic: str, number: int) -> int:
    """Return the place of the shard that a topic belongs to, the same in every process."""
    return zlib.crc32(topic.encode()) % number


def all_of(number: int) -> list[Shard]:
    """Return all shards of a number."""
    return [Shard(number, place) for place in range(number)]


def exchange(number: int) -> str:
    """Return the exchange that sends envelopes to the shards of a number, by their header."""
    return f"{EVER}.{number}"


def rest_exchange(number: int) -> str:
    """Return the exchange for what names no shard of this number."""
    return f"{EVER}.{number}.rest"


def places(number: int) -> str:
    """Return the queue with a place for each shard: whoever has one consumes that shard."""
    return f"{QUEUE}.{number}.places"


def others(number: int) -> Iterator[int]:
    """Yield the other numbers that there can be."""
    return (each for each in SHARD_NUMBERS if each != number)
