"""The loop of a handler process: take messages, have functions run, store the outcomes.

One message is with a function at a time. What came of several is stored together, about ten times a
second, or at once where somebody waits for it; and never later because a function is slow.

The process has its messages for as long as it lives: others see by a lock whether it does. So a
kill loses nothing, and the next process takes them over at once. What is stored of a message is
stored in the transaction that removes it from those that wait, and only if it is still this
process's; so whatever happens, its results are stored once.
"""

import contextlib
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog

from appliance.config import Config
from appliance.errors import LostCommitsError, StoreError, UnstorableError
from appliance.handle.handler_numbers import HandlerNumbers
from appliance.handle.holders import Holder
from appliance.handle.runner_link import FunctionAnswer, LoadError, RunnerLink, StoppedError
from appliance.machine import signs
from appliance.machine.bell import BellListener
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.model.handler_outcomes import HandlerOutcome, HandlerOutcomes
from appliance.model.wire import as_bytes
from appliance.store.base import Writer
from appliance.store.handler_rows import Handling, WaitingMessage

#: Seconds between two transactions, and where somebody waits for a result.
_STORE_EVERY: Final = 0.1
_STORE_AWAITED: Final = 0.005
#: Messages, and bytes of results, with which one is made at the latest.
_MOST_OUTCOMES: Final = 500
_MOST_BYTES: Final = 4 * 2**20
#: Messages that are taken at once: the most, and seconds that they should take.
_MOST_TAKEN: Final = 256
_TAKEN_SECONDS: Final = 0.2
#: Bytes of messages that are taken at once.
_TAKEN_BYTES: Final = 4 * 2**20
#: Seconds after which a message that failed is tried again: four times as long each time.
_AGAIN_FIRST: Final = 1.0
_AGAIN_MOST: Final = 300.0
#: Seconds between two attempts to load a function.
_LOAD_AGAIN: Final = 2.0
#: Seconds between two looks for messages of processes that have ended.
_RECOVER_EVERY: Final = 1.0
#: Seconds between attempts to use the database: doubled from the first to the last.
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 5.0
#: Seconds that a function gets at the end for the message that it has; the supervisor kills at 5.
_LAST_SECONDS: Final = 2.0

_log: Any = structlog.get_logger(__name__)


class HandlerLoop:
    """Runs until SIGTERM or SIGINT; used by one thread."""

    def __init__(
        self,
        config: Config,
        handling: Handling,
        open_writer: Callable[[], Writer],
        pulse: Pulse,
    ) -> None:
        self.shown = HandlerNumbers(config.handlers.functions)
        self._config = config
        self._handling = handling
        self._open_writer = open_writer
        self._pulse = pulse
        self._holder = Holder(config)
        self._runner = RunnerLink(config, self._tick)
        self._stop = threading.Event()
        self._stop_at = 0.0
        self._writer: Writer | None = None
        self._outcomes: list[tuple[str, HandlerOutcome]] = []  # each with its function
        self._bytes = 0  # of their results
        self._stored_at = 0.0
        self._recover_at = 0.0
        self._limits = dict.fromkeys(config.handlers.functions, 1)
        self._load_at: dict[str, float] = {}
        self._told = ""
        #: whether the database has messages as this process's that it doesn't know of
        self._may_have_more = False
        self._unloaded = {
            each: Complaint(_log, "handler not loaded", "handler loaded again", level="error")
            for each in self._limits
        }
        self._complaint = Complaint(
            _log, "handlers without the database", "handlers with the database again"
        )

    def run(self) -> None:
        """Handle messages until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        bell = self._bell()
        self._pulse.ready()
        delay = _BACKOFF_FIRST
        try:
            while not self._stop.is_set():
                self._pulse.beat()
                try:
                    is_busy = self._turn()
                except LostCommitsError:
                    raise
                except StoreError as error:
                    self._close_writer()
                    self._complaint.fails(kind=type(error).__name__, error=str(error))
                    self._stop.wait(delay)
                    delay = min(delay * 2, _BACKOFF_LAST)
                    continue
                self._complaint.works()
                delay = _BACKOFF_FIRST
                if not is_busy:
                    self._wait(bell)
        finally:
            self._pulse.stopping()
            self._end()
            if bell is not None:
                bell.close()

    def _turn(self) -> bool:
        """Store what is left, and handle some messages of each function; return whether any was."""
        if not self._holder.show():
            raise StoreError("the run folder can't be written to")
        self._store()
        if self._may_have_more:  # the database failed in the midst of some
            self._handling.put_back(self._holder.name)
            self._may_have_more = False
        now = time.monotonic()
        if now >= self._recover_at:
            self._recover_at = now + _RECOVER_EVERY
            if count := self._handling.recover(self._holder.living):
                _log.warning("messages taken over", messages=count)
        is_busy = False
        for function in self._limits:
            if not self._stop.is_set() and now >= self._load_at.get(function, 0.0):
                is_busy |= self._handle_some(function)
        self._say()
        return is_busy

    def _handle_some(self, function: str) -> bool:
        limit = self._limits[function]
        self._may_have_more = True
        taken = deque(self._handling.take(function, self._holder.name, limit, _TAKEN_BYTES))
        if not taken:
            self._may_have_more = False
            return False
        began, count = time.monotonic(), len(taken)
        try:
            while taken:
                self._runner.load(function)  # again, where a message has ended the program
                self._unloaded[function].works(function=function)
                self._handle(function, taken[0])
                taken.popleft()
                self._store_if_due()
        except LoadError as error:
            self._load_at[function] = time.monotonic() + _LOAD_AGAIN
            self._unloaded[function].fails(function=function, error=str(error))
        except StoppedError:
            pass
        took = time.monotonic() - began
        if count == limit:  # else it says little
            grown = limit * 2 if took < _TAKEN_SECONDS / 2 else limit
            self._limits[function] = max(1, limit // 2) if took > _TAKEN_SECONDS else grown
            self._limits[function] = min(self._limits[function], _MOST_TAKEN)
        self._store()
        if taken:
            self._handling.put_back(self._holder.name)
        self._may_have_more = False
        return True

    def _handle(self, function: str, message: WaitingMessage) -> None:
        most = self._config.handler_attempts
        if message.attempts >= most:  # it has ended its process each time
            self._note(function, message, FunctionAnswer(None, message.error, is_final=True))
            return
        head = {
            "topic": message.topic,
            "id": message.id,
            "received_at": message.received_at,
            "content_type": message.content_type,
            "meta": _meta(message.meta),
            "attempt": message.attempts + 1,
        }
        began = time.monotonic()
        answer = self._runner.handle(function, head, as_bytes(message.body))
        self.shown.took.observe(time.monotonic() - began)
        self._note(function, message, answer)

    def _note(self, function: str, message: WaitingMessage, answer: FunctionAnswer) -> None:
        """Gather an outcome; a failure is tried again, unless it was tried often enough."""
        attempts = message.attempts + (answer.results is None)
        retry_at: int | None = None
        if answer.results is None:
            if answer.is_final or attempts >= self._config.handler_attempts:
                last_line = answer.error.strip().rpartition("\n")[2]
                _log.error(
                    "handler failed",
                    id=message.id, topic=message.topic, attempts=attempts, error=last_line,
                )  # fmt: skip
            else:
                pause = min(_AGAIN_MOST, _AGAIN_FIRST * 4 ** (attempts - 1))
                retry_at = int((time.time() + pause) * 1000)
        outcome = HandlerOutcome(message.seq, answer.results, answer.error, attempts, retry_at)
        self._outcomes.append((function, outcome))
        self._bytes += sum(len(result.body) for _, result in answer.results or ())

    def _tick(self) -> bool:
        """Do what can't wait for a function that takes long; return whether it can take longer."""
        self._pulse.beat()
        if self._outcomes:
            try:
                self._store_if_due()
            except LostCommitsError:
                raise
            except StoreError:  # the loop says it, once it gets there
                self._stored_at = time.monotonic()
        return not (self._stop.is_set() and time.monotonic() >= self._stop_at)

    def _store_if_due(self) -> None:
        is_full = len(self._outcomes) >= _MOST_OUTCOMES or self._bytes >= _MOST_BYTES
        is_awaited = self._writer is not None and self._writer.is_awaited
        pause = _STORE_AWAITED if is_awaited else _STORE_EVERY
        if is_full or time.monotonic() >= self._stored_at + pause:
            self._store()

    def _store(self) -> None:
        """Store all outcomes that were gathered. Raises StoreError; they stay gathered then."""
        if not self._outcomes:
            return
        name = self._holder.name
        self._writer = self._writer or self._open_writer()
        try:
            self._writer.store([HandlerOutcomes(name, [each for _, each in self._outcomes])])
        except UnstorableError as error:
            _log.error("results refused by the database", error=str(error))
            self._close_writer()
            self._store_each()
        except StoreError:
            self._close_writer()
            raise
        self.shown.add(self._outcomes)
        self._outcomes, self._bytes = [], 0
        self._stored_at = time.monotonic()

    def _store_each(self) -> None:
        """Store each outcome alone; results that the database refuses even so are a failure."""
        for _, outcome in self._outcomes:
            for form in (outcome, outcome._replace(results=None, error="its results are refused")):
                writer = self._open_writer()
                try:
                    writer.store([HandlerOutcomes(self._holder.name, [form])])
                    break
                except UnstorableError:
                    continue
                finally:
                    writer.close()

    def _say(self) -> None:
        late = [each for each, complaint in self._unloaded.items() if complaint.is_open]
        trouble = f"can't load {', '.join(late)}" if late else ""
        count = len(self._limits)
        self._pulse.status(trouble or f"{count} function{'' if count == 1 else 's'}")
        if trouble != self._told:
            self._told = trouble
            self._pulse.tell(signs.HANDLER_TROUBLE, trouble)

    def _bell(self) -> BellListener | None:
        with contextlib.suppress(OSError):
            return BellListener(self._config.run_folder / "handlers")
        return None

    def _wait(self, bell: BellListener | None) -> None:
        """Wait until a worker says that messages wait, or for the next beat."""
        if bell is None:
            self._stop.wait(BEAT_SECONDS)
        elif not self._stop.is_set() and select.select([bell], [], [], BEAT_SECONDS)[0]:
            bell.read()

    def _told_to_stop(self, *_: object) -> None:
        self._stop_at = time.monotonic() + _LAST_SECONDS
        self._stop.set()

    def _end(self) -> None:
        self._runner.kill()
        try:
            self._store()
            if self._may_have_more:
                self._handling.put_back(self._holder.name)
        except StoreError:
            _log.warning("last outcomes not stored")  # their messages are handled again
        self._close_writer()
        self._handling.close()
        self._holder.close()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _meta(text: str | None) -> dict[str, Any]:
    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:  # someone wrote it by SQL
        return {}
    return found if isinstance(found, dict) else {}
