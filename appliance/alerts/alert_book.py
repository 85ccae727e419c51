"""The alert book: alerts that are raised, and the news that were not delivered yet.

It is kept in the run folder, so that a restart raises nothing twice and forgets nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.alerts.alert_conditions import AlertCondition
from appliance.config import Config
from appliance.machine import files
from appliance.model.timestamps import timestamp

#: AlertNews that wait for delivery; beyond, the oldest are given up.
_MOST_PENDING: Final = 100

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


class AlertBook:
    """Used by one thread."""

    def __init__(self, config: Config) -> None:
        self._path = path(config)
        self.raised: dict[str, Alert] = {}
        self.pending: list[AlertNews] = []
        self._seen: dict[str, float] = {}  # conditions that have to last for a while
        for each in _read(self._path).get("raised", ()):
            self.raised[each.key] = each
        self.pending = list(_read(self._path).get("pending", ()))

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
        news += [AlertNews(self.raised.pop(key), True, timestamp(now)) for key in over]
        return news

    def keep(self) -> None:
        """Write the book; where that fails, a restart may say something twice."""
        del self.pending[:-_MOST_PENDING]
        content = {
            "raised": [asdict(each) for each in self.raised.values()],
            "pending": [asdict(each) for each in self.pending],
        }
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
    found: list[Alert] = list(_read(path(config)).get("raised", ()))
    return found


def _read(file: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_text())
        return {
            "raised": [Alert(**each) for each in content["raised"]],
            "pending": [
                AlertNews(Alert(**each["alert"]), bool(each["is_over"]), str(each["at"]))
                for each in content["pending"]
            ],
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
