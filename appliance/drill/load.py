"""Senders that each post to a topic of their own, one request at a time, and keep a journal."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

from appliance.client import ApiConnection, NoAnswerError
from appliance.drill.journal import Attempt, Fate, Journal, text

#: Seconds; any honest answer comes sooner.
ANSWER_SECONDS: Final = 60.0
#: Messages in a request of a sender of batches.
BATCH: Final = 20
#: Seconds to wait after a request without an answer, or refused: a restart takes longer anyway.
_PAUSE_AFTER_FAILURE: Final = 0.05


class Style(Enum):
    """How a sender sends."""

    #: one message a request; one that is not accepted is left, and the next one follows
    PLAIN = "plain"
    #: the same with an Idempotency-Key, sent again until it is accepted
    KEYED = "keyed"
    #: many messages a request, with a key, sent again until they are accepted
    BATCH = "batch"
    #: one message, without a key, sent again until it is accepted, as MQTT clients do
    AGAIN = "again"


#: The styles that senders take in turn by default.
MIXED: Final = (Style.PLAIN, Style.KEYED, Style.PLAIN, Style.BATCH)


class Load:
    """A load on the API at `url`. As a context manager it sends until the block ends.

    A topic has one sender, so the order in which it was answered is the order it must be stored
    in. `rate` is in messages a second, all senders together; None: as fast as they are answered.
    `pause` is in seconds between a sender's requests. `watch` is called with every attempt, in the
    senders' threads. A sender ends after `most` messages.
    """

    def __init__(
        self,
        url: str,
        token: str,
        name: str,
        *,
        senders: int = 4,
        rate: float | None = None,
        pause: float = 0.0,
        most: int | None = None,
        styles: Sequence[Style] = MIXED,
        watch: Callable[[Attempt], object] = lambda _: None,
        journal: Journal | None = None,
    ) -> None:
        self.journal = journal or Journal()
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pause = pause
        self._rate = rate / senders if rate else None
        self._most = most
        self._watch = watch
        self._stop = threading.Event()
        #: topic -> the style of its sender
        self.styles = {f"{name}-{n}": styles[n % len(styles)] for n in range(senders)}
        self._threads = [
            threading.Thread(target=self._send, args=sender) for sender in self.styles.items()
        ]
        for thread in self._threads:
            thread.daemon = True

    def __enter__(self) -> Self:
        self.journal.begin()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.join()

    def stop(self) -> None:
        """Let every sender end after the request that is under way."""
        self._stop.set()

    def join(self) -> None:
        """Wait until every sender has its last answer. Raises TimeoutError."""
        for thread in self._threads:
            thread.join(ANSWER_SECONDS + 10)
            if thread.is_alive():
                raise TimeoutError("a request waits for ever")
        self.journal.end()

    def _send(self, topic: str, style: Style) -> None:
        count = BATCH if style is Style.BATCH else 1
        due = time.monotonic()
        with contextlib.closing(self._link(style)) as link:  # it connects again by itself
            first = 0
            while not self._stop.is_set() and (self._most is None or first < self._most):
                attempt = self._attempt(link, topic, first, count, style)
                self.journal.note(attempt)
                self._watch(attempt)
                accepted = attempt.fate is Fate.ACCEPTED
                if accepted or style is Style.PLAIN:
                    first += count
                due = max(due + count / self._rate, time.monotonic()) if self._rate else 0.0
                pause = max(self._pause, due - time.monotonic())
                self._stop.wait(pause if accepted else max(pause, _PAUSE_AFTER_FAILURE))

    def _link(self, _: Style) -> Any:
        return ApiConnection(self._url, self._headers, ANSWER_SECONDS)

    def _attempt(self, link: Any, topic: str, first: int, count: int, style: Style) -> Attempt:
        headers = {}
        path = f"/v1/topics/{topic}/messages"
        if style is not Style.PLAIN:
            headers["Idempotency-Key"] = f"{topic}-{first}"
        if style is Style.BATCH:
            path += "?split=lines"
        body = "\n".join(text(topic, first + n) for n in range(count)).encode()
        began = time.monotonic()
        try:
            answer = link.send("POST", path, body, headers)
            content: dict[str, Any] = json.loads(answer.body)
        except (*NoAnswerError, ValueError) as error:
            link.close()
            took = time.monotonic() - began
            return Attempt(topic, first, count, 0, (), began, took, detail=repr(error))
        took = time.monotonic() - began
        if answer.status in (201, 202):
            ids = tuple(content["ids"]) if style is Style.BATCH else (content["id"],)
            return Attempt(topic, first, count, answer.status, ids, began, took)
        return Attempt(
            topic, first, count, answer.status, (), began, took,
            headers=answer.headers,
            problem=str(content.get("type", "")).rpartition(":")[2],
            detail=str(content.get("detail", "")),
        )  # fmt: skip
