"""Alerts that are raised, with the next step; those that are over; topics that are expected."""

import time
from typing import Final, NamedTuple

from flask import Blueprint, render_template

from appliance.alerts import (
    alert_book,
    alert_conditions,
    endpoint_conditions,
    handler_conditions,
)
from appliance.config import Config
from appliance.console.page_errors import PageError
from appliance.console.parts import ConsoleParts
from appliance.console.rights import principal
from appliance.model.timestamps import EPOCH, seconds_between
from appliance.store.base import Reader

#: Topics that are looked at, and expectations that are shown.
_MOST_TOPICS: Final = 10_000
_MOST_SHOWN: Final = 200

#: What a kind means, and what to do.
ADVICE: Final = {
    alert_conditions.SILENCE: (
        "Messages that are expected do not come",
        "See whether the sender runs and reaches this machine; its log says what it was answered.",
    ),
    alert_conditions.LAG: (
        "Messages wait to be stored",
        "Nothing is lost: they are on disk. See the worker's log: a slow or full disk, or a lock?",
    ),
    alert_conditions.DEAD_LETTERS: (
        "Messages could not be stored",
        "Read the reason on the page of dead letters, mend it, and send them again.",
    ),
    alert_conditions.COPIES: (
        "Copies of the database are away",
        "Start the standbys. Nothing is lost: messages wait in the queue until they are back.",
    ),
    alert_conditions.DISK: (
        "A disk fills up",
        "Delete files or messages, add a retention rule, or use a larger disk.",
    ),
    alert_conditions.HEARTBEAT: (
        "A process gives no sign of life",
        "Its supervisor starts it again; if that does not help, its log says why.",
    ),
    alert_conditions.BROKER: (
        "The broker does not serve",
        "Messages are refused until it does. Its log, and the checks of the system, say more.",
    ),
    alert_conditions.CANARY: (
        "Messages sent to the public address don't become rows",
        "Follow one: does the address lead here, is its certificate valid, do the workers run?",
    ),
    alert_conditions.BACKUP: (
        "The newest backup can't be relied on",
        "Make another one on the page of backups; it is proven within a minute. Look at its disk.",
    ),
    endpoint_conditions.ENDPOINT: (
        "An endpoint takes no messages",
        "Its messages wait, unless retention deletes them. See why; resume it once it is well.",
    ),
    handler_conditions.HANDLER: (
        "Messages wait for their handler",
        "Nothing is lost. Is the function slow, does it fail, can it be loaded? Its log says why.",
    ),
}


class Expected(NamedTuple):
    """A topic and how often a message of it must come."""

    topic: str
    seconds: int
    last_at: str | None
    is_late: bool


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/alerts to whoever may read all topics."""

    @views.get("/alerts")
    def show_alerts() -> str:
        if principal().is_restricted:
            raise PageError(403, "Alerts tell of all topics; your token may read some of them.")
        expected = _expected(parts.config, parts.reader, time.time())
        return render_template(
            "console/alerts.html",
            kept=alert_book.alert_pages(parts.config),
            advice=ADVICE,
            expected=expected[:_MOST_SHOWN],
            unshown=len(expected) - _MOST_SHOWN,
            rules=parts.config.expect,
            has_webhook=bool(parts.config.alert_url),
        )


def _expected(config: Config, reader: Reader, now: float) -> list[Expected]:
    """Return the topics of which messages are expected; those that are late first."""
    if not config.expect:
        return []
    last: dict[str, str | None] = {
        each.pattern: None for each in config.expect.all if each.is_of_one
    }
    last |= {each.topic: each.last_at for each in reader.topics(limit=_MOST_TOPICS)}
    found = []
    for topic, at in last.items():
        if (rule := config.expect.of(topic)) is not None:
            silent = now - (seconds_between(EPOCH, at) if at else 0.0)
            found.append(Expected(topic, rule.seconds, at, silent > rule.seconds))
    return sorted(found, key=lambda each: (not each.is_late, each.topic))
