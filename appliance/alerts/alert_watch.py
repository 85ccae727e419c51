"""The watch: looks for conditions of alerts, and tells each once, and once more when it is over.

A thread of the janitor's. It works beside the janitor's duties, which can take minutes.
"""

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any, Final

import structlog

from appliance.alerts import webhook
from appliance.alerts.alert_book import AlertBook, AlertNews
from appliance.alerts.alert_conditions import AlertConditions
from appliance.config import Config
from appliance.errors import UndeliveredError
from appliance.machine.complaint import Complaint
from appliance.metrics.board import Numbers
from appliance.store.base import Reader
from appliance.store.endpoints import Endpoints
from appliance.store.handler_rows import Handling

#: Seconds between two looks, and before the first.
LOOK_SECONDS: Final = 10.0
#: Seconds until a delivery is tried again: doubled from the first to the last.
_FIRST: Final = 5.0
_LAST: Final = 300.0
#: Attempts in one look: those of a webhook that is away take five seconds each.
_AT_ONCE: Final = 10

_log: Any = structlog.get_logger(__name__)


class AlertWatch:
    """Used by one thread, but for `numbers`."""

    def __init__(
        self,
        config: Config,
        reader: Reader,
        send: Callable[[str, AlertNews, str], None] = webhook.send,
        endpoints: Endpoints | None = None,
        handling: Handling | None = None,
    ) -> None:
        self._url = config.alert_url
        self._send = send
        self._book = AlertBook(config)
        self._conditions = AlertConditions(config, reader, self._book.raised, endpoints, handling)
        self._pause, self._again_at = _FIRST, 0.0
        self._delivering = Complaint(_log, "alert not delivered", "alerts delivered again")

    def numbers(self) -> Numbers:
        """Return the alerts that are raised, for the board."""
        raised: Mapping[str, float] = {
            f"alert_active:{each.kind}:{each.subject}": 1
            for each in list(self._book.raised.values())
        }
        return Numbers(gauges=raised)

    def look(self, now: float) -> None:
        """Look once, and tell what is new; `now` is the Unix time."""
        news = self._book.update(self._conditions.now(), now)
        for each in news:
            _tell(each)
        if self._url:
            self._book.pending += news
            self._deliver()
        if news:
            self._book.keep()

    def _deliver(self) -> None:
        """Deliver what waits, in order; what the webhook refuses for good is given up."""
        pending, before = self._book.pending, len(self._book.pending)
        if not pending or time.monotonic() < self._again_at:
            return
        for _ in range(min(_AT_ONCE, before)):
            try:
                self._send(self._url, pending[0], metadata.version("queue-appliance"))
            except UndeliveredError as error:
                self._delivering.fails(kind=str(error.is_final), error=str(error))
                if not error.is_final:
                    self._again_at = time.monotonic() + self._pause
                    self._pause = min(_LAST, self._pause * 2)
                    break
            else:
                self._delivering.works()
                self._pause = _FIRST
            del pending[0]
        if len(pending) != before:
            self._book.keep()


@contextlib.contextmanager
def watching(
    config: Config, reader: Reader, endpoints: Endpoints, handling: Handling
) -> Iterator[AlertWatch]:
    """Look for the time of the block."""
    watch = AlertWatch(config, reader, endpoints=endpoints, handling=handling)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(LOOK_SECONDS):
            try:
                watch.look(time.time())
            except Exception:  # noqa: BLE001  # the next look may be better
                _log.exception("alerts not looked for")
        handling.close()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="alerts", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join(2.0)
        # One left open would keep the last writer from removing the write-ahead log.
        reader.close()


def _tell(news: AlertNews) -> None:
    values = {"alert": news.alert.kind, "subject": news.alert.subject, "text": news.alert.text}
    if news.is_over:
        _log.info("alert over", since=news.alert.since, **values)
    else:
        _log.warning("alert raised", **values)
