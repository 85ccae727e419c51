"""Sends a message to the public address now and then, which must become a row.

It goes the way of everyone's messages: the name, the proxy, the certificate, the token, the broker,
the worker. Its row is removed as soon as it was seen, so that lists and counts stay as they are.
"""

import contextlib
import contextvars
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.canary.canary_token import canary_token, make_anew
from appliance.client import Answer, ApiConnection, NoAnswerError, find_api
from appliance.config import Config
from appliance.errors import ClientError, FolderError, StoreError
from appliance.machine.complaint import Complaint
from appliance.metrics.board import Numbers
from appliance.model.timestamps import EPOCH, now, seconds_between
from appliance.model.topics import CANARY_BEGIN, CANARY_TOPIC
from appliance.proofs import canary_book
from appliance.proofs.canary_book import CanaryBook
from appliance.store.base import Store

#: Seconds until the first one: the API starts at the same time.
_FIRST: Final = 3.0
#: Seconds that it may take to become a row, and for the answer to come.
_STORED_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 15.0
#: Seconds that a stop waits for one that is under way.
_CLOSING: Final = 1.0

_log: Any = structlog.get_logger(__name__)


class Canary:
    """Sends one after another; used by one thread, but for `numbers`."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._url, self._certificate = _address(config)
        self._book = canary_book.read(config) or CanaryBook()
        self._failed = 0
        self._complaint = Complaint(_log, "canary failed", "canary is stored again")

    def send(self) -> CanaryBook:
        """Send one, and see that it becomes a row; the outcome is kept, and returned."""
        began = time.monotonic()
        reason = self._sent()
        seconds = round(time.monotonic() - began, 4)
        if reason:
            self._failed += 1
            book = replace(
                self._book,
                url=self._url,
                failing_since=self._book.failing_since or now(),
                failures=self._book.failures + 1,
                reason=reason[:300],
            )
            self._complaint.fails(url=self._url, reason=reason)
        else:
            book = CanaryBook(self._url, now(), seconds)
            self._complaint.works()
        self._book = book
        try:
            canary_book.keep(self._config, book)
        except OSError as error:
            _log.warning("canary not noted", error=str(error))
        return book

    def numbers(self) -> Numbers:
        """Return when the last one became a row, and how long it took, for the board."""
        book, gauges = self._book, {}
        if book.last_good_at is not None and book.seconds is not None:
            gauges["canary_last_stored_timestamp_seconds"] = seconds_between(
                EPOCH, book.last_good_at
            )
            gauges["canary_duration_seconds"] = book.seconds
        return Numbers(counters={"canary_failed_total": self._failed}, gauges=gauges)

    def _sent(self) -> str:
        """Send one; return why it did not become a row, or nothing."""
        body = CANARY_BEGIN + json.dumps(now()) + "}"
        try:
            answer = self._answer(body.encode())
            if answer.status == 401:  # revoked, or of a database that was restored since
                make_anew(self._config, self._store.access)
            if answer.status == 201:
                return self._missed(answer.json()["id"])
        except NoAnswerError as error:
            return f"{type(error).__name__}: {error}"
        except (ClientError, LookupError, TypeError):
            return "the answer is not from the appliance's API"
        except (FolderError, StoreError) as error:
            return str(error)
        if answer.status == 202:
            return f"accepted, and not stored within {_STORED_SECONDS} seconds"
        return answer.detail

    def _missed(self, message_id: str) -> str:
        """Look for the row, and remove it; return why it is not there, or nothing."""
        if message_id in self._store.take_canaries():
            return ""
        return "answered 201, and no such row is in the database of this appliance"

    def _answer(self, body: bytes) -> Answer:
        headers = {
            "User-Agent": f"appliance/{metadata.version('queue-appliance')}",
            "Authorization": f"Bearer {canary_token(self._config, self._store.access)}",
            "Content-Type": "application/json",
            "Prefer": f"wait={_STORED_SECONDS}",
        }
        connection = ApiConnection(self._url, headers, _ANSWER_SECONDS, self._certificate)
        try:
            return connection.send("POST", f"/v1/topics/{CANARY_TOPIC}/messages", body)
        finally:
            connection.close()


@contextlib.contextmanager
def canaries(config: Config, store: Store) -> Iterator[Callable[[], Numbers]]:
    """Send canaries for the time of the block; yields what returns their numbers."""
    stop, canary = threading.Event(), Canary(config, store)

    def run() -> None:
        with contextlib.suppress(FolderError, StoreError):
            canary_token(config, store.access)  # the API needs a moment until it knows a new one
        pause = _FIRST
        while not stop.wait(pause):
            began = time.monotonic()
            try:
                canary.send()
            except Exception:  # noqa: BLE001  # the next one may fare better
                _log.exception("canary not sent")
            pause = max(1.0, config.canary_every - (time.monotonic() - began))

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="canary", daemon=True)
    thread.start()
    try:
        yield canary.numbers
    finally:
        stop.set()
        thread.join(_CLOSING)


def _address(config: Config) -> tuple[str, Path | None]:
    """Return the public address, else our own with the certificate that it is known by."""
    public = config.public_url
    if public is not None:
        return f"{public.scheme}://{public.host}{public.prefix}", None
    return find_api(replace(config, url="")).url, config.tls_cert
