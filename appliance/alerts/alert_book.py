"""The alert book: alerts that are raised, and the news that were not delivered yet.

It is kept in the run folder, so that a restart raises nothing twice and forgets nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.alerts.alert_condition import AlertCondition
from appliance.config import Config
from appliance.machine import files
from appliance.model.timestamps import timestamp

#: AlertNews that wait for delivery; beyond, the oldest are given up.
_MOST_PENDING: Final = 100
#: Alerts that are over and still remembered.
_MOST_OVER: Final = 50

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Alert:
    """An alert that is raised: `since` when, in words that may have changed since."""

    kind: str
    subject: str
    text: str
    since: str

    @property
    def key(self) -> str:
        """Name of the alert, as its condition has it."""
        return f"{self.kind}:{self.subject}" if self.subject else self.kind


@dataclass(frozen=True)
class AlertNews:
    """An alert that was raised, or is over, at a time."""

    alert: Alert
    is_over: bool
    at: str


@dataclass
class AlertPages:
    """What the book holds: raised alerts, news that were not delivered, those that are over."""

    raised: list[Alert] = field(default_factory=list)
    pending: list[AlertNews] = field(default_factory=list)
    over: list[AlertNews] = field(default_factory=list)


class AlertBook:
    """Used by one thread."""

    def __init__(self, config: Config) -> None:
        self._path = path(config)
        self._seen: dict[str, float] = {}  # conditions that have to last for a while
        kept = _read(self._path)
        self.raised = {each.key: each for each in kept.raised}
        self.pending, self._over = kept.pending, kept.over

    def update(self, found: Sequence[AlertCondition], now: float) -> list[AlertNews]:
        """Take over the conditions of this moment (Unix time); return what is new."""
        conditions = {each.key: each for each in found}
        self._seen = {key: self._seen.get(key, now) for key in conditions}
        news = []
        for key, condition in conditions.items():
            if key in self.raised:
                known = self.raised[key]
                self.raised[key] = Alert(known.kind, known.subject, condition.text, known.since)
            elif now - self._seen[key] >= condition.patience:
                alert = Alert(
                    condition.kind, condition.subject, condition.text, timestamp(self._seen[key])
                )
                self.raised[key] = alert
                news.append(AlertNews(alert, False, timestamp(now)))
        over = [key for key in self.raised if key not in conditions]
        ended = [AlertNews(self.raised.pop(key), True, timestamp(now)) for key in over]
        self._over += ended
        return news + ended

    def keep(self) -> None:
        """Write the book; where that fails, a restart may say something twice."""
        del self.pending[:-_MOST_PENDING]
        del self._over[:-_MOST_OVER]
        content = asdict(AlertPages([*self.raised.values()], self.pending, self._over))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_private(self._path, json.dumps(content))
        except OSError as error:
            _log.warning("alerts not kept", error=str(error))


def path(config: Config) -> Path:
    """Return the path of the book."""
    return config.run_folder / "alerts.json"


def raised(config: Config) -> list[Alert]:
    """Return the alerts that are raised, as the book says; any process may ask."""
    return alert_pages(config).raised


def alert_pages(config: Config) -> AlertPages:
    """Return all that the book holds; any process may ask."""
    return _read(path(config))


def _read(file: Path) -> AlertPages:
    try:
        content = json.loads(file.read_text())
        return AlertPages(
            [Alert(**each) for each in content["raised"]],
            _news(content["pending"]),
            _news(content.get("over", ())),  # an earlier version remembered none
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return AlertPages()


def _news(kept: Iterable[Any]) -> list[AlertNews]:
    return [
        AlertNews(Alert(**each["alert"]), bool(each["is_over"]), str(each["at"])) for each in kept
    ]
