"""Dead letters many at once: sent again or discarded one by one, with a result for each.

A batch is bounded in letters and in time. It ends early where the broker or the database can't be
used: the letters that are left would only wait for the same error, and none of them is lost.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from appliance.errors import ApplianceError, BrokerError, StoreError
from appliance.redrive import Redriven, Redriver
from appliance.store.access_rows import Actor, Deed
from appliance.store.base import DeadLetters
from appliance.store.rows import Letter

#: Letters of one batch, and seconds after which the rest of it is left for another one.
MOST_LETTERS: Final = 100
BATCH_SECONDS: Final = 20.0


@dataclass(frozen=True)
class LetterResult:
    """What became of one letter.

    `name` is how the letter was named. `gone`: there is no such letter; `left`: it was not tried.
    """

    name: str
    outcome: Literal["queued", "discarded", "failed", "gone", "left"]
    letter: Letter | None = None
    message: Redriven | None = None
    error: ApplianceError | None = None


#: Finds the letter that a name stands for; None where there is none. Raises InputError.
Find = Callable[[str], Letter | None]


def redrive_each(
    redriver: Redriver,
    names: Iterable[str],
    find: Find,
    by: Actor,
    *,
    topic: str | None = None,
    force: bool = False,
) -> list[LetterResult]:
    """Send the letters again, each to `topic` (None: its own)."""

    def redrive(name: str, letter: Letter) -> LetterResult:
        message = redriver.redrive(letter, topic, by, force=force)
        return LetterResult(name, "queued", letter, message)

    return list(_each(names, find, redrive))


def discard_each(
    letters: DeadLetters, names: Iterable[str], find: Find, by: Actor
) -> list[LetterResult]:
    """Remove the letters for good."""

    def discard(name: str, letter: Letter) -> LetterResult:
        removed = letters.remove(letter, discarding(letter, by))
        return LetterResult(name, "discarded" if removed else "gone", letter)

    return list(_each(names, find, discard))


def discarding(letter: Letter, by: Actor) -> Deed:
    """Return the entry for the audit trail of a letter that is discarded."""
    details = f"{letter.reason}, message {letter.id} of {letter.topic}"
    return Deed(by, "dead-letter-discard", str(letter.seq), details)


def _each(
    names: Iterable[str], find: Find, act: Callable[[str, Letter], LetterResult]
) -> Iterator[LetterResult]:
    end = time.monotonic() + BATCH_SECONDS
    goes_on = True
    for name in names:
        if not goes_on or time.monotonic() > end:
            yield LetterResult(name, "left")
            continue
        letter = None
        try:
            letter = find(name)
            yield LetterResult(name, "gone") if letter is None else act(name, letter)
        except ApplianceError as error:
            goes_on = not isinstance(error, (BrokerError, StoreError))
            yield LetterResult(name, "failed", letter, error=error)
