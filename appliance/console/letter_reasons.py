"""The reasons of dead letters in words: why such a letter is there, and how to go on. Pure."""

from typing import Final, NamedTuple


class ReasonWords(NamedTuple):
    """A sentence about the cause, and one about the next step."""

    cause: str
    advice: str


_CHECK: Final = "A message for an inbox address that quarantines"
_AGAIN: Final = "then send them again: each is checked once more."

#: As docs/durability.md has them.
WORDS: Final = {
    "undecodable": ReasonWords(
        "An envelope of the appliance's own type, but its content does not match its type.",
        "Send again to store its bytes as one message, or discard.",
    ),
    "conflict": ReasonWords(
        "The same idempotency key came with another body, when the API could not know.",
        "Send again if the second body counts too: it becomes a message with a new id.",
    ),
    "not-json": ReasonWords(
        "A line or element of a batch is not JSON.",
        "Send again to store the line as it is, or discard.",
    ),
    "bad-event": ReasonWords(
        "An event of a CloudEvents batch is none.",
        "Send again to store it as a plain message, or discard.",
    ),
    "no-signature": ReasonWords(
        f"{_CHECK} came without its signature.",
        f"Find out who sends without signing, {_AGAIN}",
    ),
    "bad-signature": ReasonWords(
        f"{_CHECK} was signed with another secret.",
        f"Give the address the sender's secret, {_AGAIN}",
    ),
    "too-old": ReasonWords(
        f"{_CHECK} was signed long before it came.",
        "Send again: the time is not looked at then, the signature is.",
    ),
    "too-new": ReasonWords(
        f"{_CHECK} was signed in the future: the sender's clock or this one is wrong.",
        "Set the clock, then send again: the time is not looked at then, the signature is.",
    ),
    "bad-form": ReasonWords(
        f"{_CHECK} has a body that can't be read.",
        "Send again by force to store it as it is, or discard.",
    ),
    "schema": ReasonWords(
        "It does not fit the topic's JSON Schema.",
        f"Change the schema, {_AGAIN}",
    ),
    "too-large": ReasonWords(
        "It is over the limit for one message.",
        "Raise APPLIANCE_MAX_MESSAGE_BYTES and restart, then send again.",
    ),
    "empty": ReasonWords(
        "Another AMQP client published it without a body.",
        "Discard: a message needs at least one byte.",
    ),
    "bad-topic": ReasonWords(
        "Another AMQP client published it under a name that is no topic.",
        "Send again to a topic that you name.",
    ),
    "foreign-envelope": ReasonWords(
        "Another AMQP client published it under a type of the appliance's own programs.",
        "Send again to store its bytes as one message, or discard.",
    ),
    "handler-failed": ReasonWords(
        "The topic's handler, a function of yours, failed with it or rejected it.",
        "Mend the function that the error names, then send again.",
    ),
    "unstorable": ReasonWords(
        "The database refuses it: a trigger, a constraint or a unique index that someone added.",
        "Mend the cause that the error names, then send again.",
    ),
    "broker-": ReasonWords(
        "The broker gave up on it: it expired, or another consumer rejected it.",
        "Send again: it becomes the same message with the same id.",
    ),
}

_UNKNOWN: Final = ReasonWords(
    "This program does not know the reason; a newer one may have written it.",
    "Open a letter to read its error.",
)


def words_of(reason: str) -> ReasonWords:
    """Return the words about a reason."""
    if reason.startswith("broker-"):
        return WORDS["broker-"]
    return WORDS.get(reason, _UNKNOWN)
