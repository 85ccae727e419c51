"""Conditions of alerts of handlers: messages that wait too long for theirs, and who should run it.

Each function has an alert of its own, under its name; of many that are late there is one.
"""

from collections.abc import Iterator
from typing import Final

from appliance.alerts.alert_condition import AlertCondition
from appliance.machine.signs import HANDLER_TROUBLE, Sign
from appliance.model import timestamps
from appliance.model.quantities import span_words
from appliance.model.timestamps import seconds_between
from appliance.store.handler_rows import FunctionBacklog, Handling

HANDLER: Final = "handler"
#: The process that runs functions, by its sign of life.
HANDLE: Final = "handle"

#: Seconds that the oldest message of a function may be old, and for which one must be so: a message
#: that was held up before, or sent for later, is old when it comes here.
_OLD_SECONDS: Final = 300.0
_PATIENCE: Final = 60.0
#: Messages of a function that are looked at.
_MOST_COUNTED: Final = 10_000
#: Functions that have an alert each.
_MOST_NAMED: Final = 20
#: Characters of a complaint.
_LONGEST: Final = 300


def late_functions(handling: Handling, living: list[Sign]) -> list[AlertCondition]:
    """Return the functions whose messages wait too long. Raises StoreError."""
    now = timestamps.now()
    trouble = "; ".join(_troubles(living))[:_LONGEST]
    found = []
    for each in handling.backlog(_MOST_COUNTED):
        age = seconds_between(each.oldest_at, now) if each.oldest_at else 0.0
        if age > _OLD_SECONDS:
            why = f" ({trouble})" if trouble else ""
            text = f"{_count(each)} wait for it, since {span_words(age)}{why}: "
            text += "appliance handler list"
            found.append(AlertCondition(HANDLER, each.function, text, _PATIENCE))
    if len(found) > _MOST_NAMED:
        text = f"messages wait for {len(found)} functions: appliance handler list"
        return [AlertCondition(HANDLER, "", text, _PATIENCE)]
    return found


def runner_trouble(living: list[Sign], silent_seconds: float) -> str:
    """Return in words what is wrong with the processes that run functions; empty: nothing is."""
    ages = [sign.seconds_ago for sign in living if sign.process == HANDLE]
    if not ages:
        return "no handle runs, and a topic has a handler"
    if min(ages) > silent_seconds:
        return f"the handle gave no sign of life for {span_words(min(ages))}"
    return ""


def _troubles(living: list[Sign]) -> Iterator[str]:
    signs = [sign for sign in living if sign.process == HANDLE]
    if not signs:
        yield "no handle runs"
    yield from sorted({str(sign.facts.get(HANDLER_TROUBLE) or "") for sign in signs} - {""})


def _count(backlog: FunctionBacklog) -> str:
    if backlog.waiting >= _MOST_COUNTED:
        return f"{_MOST_COUNTED:,} messages or more"
    return "1 message" if backlog.waiting == 1 else f"{backlog.waiting:,} messages"
