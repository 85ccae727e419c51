"""Outcomes of handlers: how each message ended that a handler process had. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from appliance.model.ids import ids_from, key_prefix
from appliance.model.wire import Message

#: `dead_letters.reason` of a message whose handler raised, crashed, or took too long or too much.
HANDLER_FAILED: Final = "handler-failed"
#: What becomes of a message: its results are rows; there are none; it is a dead letter.
HANDLED: Final = "handled"
DROPPED: Final = "dropped"
DEAD: Final = "dead"


class HandlerOutcome(NamedTuple):
    """What became of the waiting message with this `seq`.

    `results` are its results, each with its topic: their ids and times are not looked at. They are
    None where the handler failed: then `retry_at` (Unix time in milliseconds) is when it is tried
    again, None where it is given up; `error` says why in words; `attempts` is how often it failed.
    """

    seq: int
    results: Sequence[tuple[str, Message]] | None
    error: str = ""
    attempts: int = 0
    retry_at: int | None = None


@dataclass(frozen=True, slots=True)
class HandlerOutcomes:
    """Outcomes of messages that the process `holder` had, to be stored. No delivery is one.

    One of a message that `holder` has no more is left out: another process has it, or had it.
    """

    holder: str
    outcomes: Sequence[HandlerOutcome]
    body: bytes = b""
    received_at: str = ""
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class ReleasedMessages:
    """Messages that wait for a function that no rule names any more: some of them.

    They go to the function that their topic has now, or become rows as they came. No delivery is
    one: the worker asks for it itself.
    """

    body: bytes = b""
    received_at: str = ""
    ledger: str = ""


def result_ids(message_id: str, count: int) -> list[str]:
    """Return the ids of a message's results: its own where there is one, else ids that follow.

    No client's key gives any of those, because no topic is empty. So however often a message is
    handled, its results are the same messages.
    """
    if count == 1:
        return [message_id]
    return ids_from(key_prefix("", f"handled {message_id}") + "00000000", count)
