"""The doors by which messages come in, and the promises of each. No I/O.

`GET /v1/doors` and docs/doors.md both quote this table; a test compares them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Door:
    """One way in: its promises, each a sentence for people."""

    name: str
    #: What the sender's acknowledgement means.
    acknowledgement: str
    #: What can be stored twice.
    doubled: str
    #: What can be lost.
    lost: str


DOORS: Final = (
    Door(
        "http",
        "202: the broker has the message on disk. 201 (with Prefer: wait): it is a row.",
        "A request that is repeated without an Idempotency-Key, or with the key of a row that was "
        "deleted since.",
        "Nothing that was answered 2xx. A request without an answer may or may not be kept: "
        "repeat it with the same Idempotency-Key.",
    ),
    Door(
        "inbox",
        "202, 200 to a repeated message, or the answer that the inbox is set to give (303 of a "
        "form): the broker has the message on disk, or it has it for the quarantine. 201 (with "
        "Prefer: wait): it is a row. A GET without a message and a challenge of the sender's "
        "are answered 200 too; there is nothing to keep.",
        "A request that is repeated, if neither the inbox's kind nor an Idempotency-Key gives it "
        "an id; and a request that is kept in the quarantine, each time it is sent.",
        "Nothing that was answered as taken. A request that was refused or not answered, "
        "if its sender does not send it again.",
    ),
    Door(
        "amqp",
        "A publisher confirm: the broker has the message on disk. "
        "A client that does not ask for confirms gets none.",
        "A message without a message_id: if its client publishes it again, "
        "or if the broker redelivers it after a crash.",
        "Nothing that was published as mandatory and confirmed. A message that was published "
        "without confirms can be lost without notice; one that is not mandatory, while the queue "
        "is made anew.",
    ),
    Door(
        "drain",
        "A publisher confirm of a durable queue: RabbitMQ keeps a persistent message as it keeps "
        "any of that queue's. It is acknowledged to its queue once it is a row.",
        "A line without a message_id, if its producer sends it twice, or if the broker itself ends "
        "between its row and its acknowledgement; not by a crash of the appliance's other "
        "processes.",
        "What the broker loses before it is a row: when it ends, all of a queue that is not "
        "durable, and messages that are not persistent or were not confirmed.",
    ),
    Door(
        "mqtt",
        "PUBACK, to a message of QoS 1: the broker has the message on disk. An empty message, by "
        "which MQTT deletes a retained one, is acknowledged too; there is nothing to keep. "
        "QoS 0 is never acknowledged, and QoS 2 is not supported.",
        "A message that its client sends again because PUBACK was lost, or that the broker "
        "redelivers after a crash. The user property idempotency-key prevents both; it takes "
        "MQTT 5 and RabbitMQ 4. MQTT 3.1.1 has nothing like it.",
        "Nothing that was acknowledged, unless somebody deletes the queue by hand. A message of "
        "QoS 0 can be lost without notice. One of QoS 1 without PUBACK may or may not be kept: "
        "its client sends it again.",
    ),
)
