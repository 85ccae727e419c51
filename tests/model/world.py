"""A whole appliance on a simulated broker: its API and worker processes, its database, its clients.

The processes are made of the real publisher, consumer, worker, writer, ledger and redrive. They
stand on a virtual loop (`clockwork`) and a simulated broker. The database is a real SQLite file;
that its commits survive a power cut is not tried here, but in tests/powercut.
"""

import contextlib
import logging
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import structlog
from clockwork import FOREVER, Clock, Killed, StrandEvent, StrandQueue, VirtualLoop, park
from simulated_broker import Broker

import appliance.replay_copier
import appliance.worker
from appliance import config as configuration
from appliance.broker import link, shard_turns, topology
from appliance.broker.consumer import AmqpConsumer
from appliance.broker.envelopes import EnvelopeReader
from appliance.broker.publish import last_words, publisher
from appliance.delayed_mover import DelayedMover
from appliance.deletion import Deleter
from appliance.errors import ApplianceError, DeadlineError, RefusedError
from appliance.machine import ticks
from appliance.machine.allowance import allowance
from appliance.model import ledger, ledger_accounting
from appliance.model.ids import IdSource, key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Message, batch, pack, unpack
from appliance.redrive import Redriver
from appliance.replay_copier import ReplayCopier
from appliance.schemas.foreign_fitter import ForeignFitter
from appliance.store import open_store
from appliance.store.rows import Choice
from appliance.store.sqlite.database import sqlite3

if TYPE_CHECKING:
    import asyncio

#: What becomes of each commit of a process until that is mended.
COMMIT_FAULTS = ("fails", "fails though done", "kills before", "kills after", "is slow")


@dataclass
class Attempt:
    """One message of a client's journal."""

    topic: str
    id: str
    body: bytes
    posted: int
    process: object = None
    answered: int | None = None
    answer: str = "none"  # kept, refused, unknown


def beside(body: bytes) -> tuple[str | None, str | None]:
    """Return the content type and the meta that a message with this body is sent with, alone."""
    return ("text/x-model", f'{{"body":"{body.decode()}"}}') if body[-1] % 2 else (None, None)


@dataclass
class Parts:
    """The classes that processes are made of; a test plants a mistake by another one."""

    worker: type = appliance.worker.Worker
    consumer: type = AmqpConsumer
    publisher: type = publisher.AmqpPublisher
    redriver: type = Redriver
    patches: list[tuple[Any, str, Any]] = field(default_factory=list)


class _Pulse:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Connection:
    """A connection to SQLite whose next commit has a fault."""

    def __init__(self, real: Any, process: "Process") -> None:
        self._real = real
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql.startswith("BEGIN") and self._process.fault == "is slow":
            park(wakes=lambda: not self._process.is_slow)
        if sql == "COMMIT":
            fault = self._process.fault
            if fault == "fails":
                self._real.execute("ROLLBACK")
                raise _io_error()
            if fault == "kills before":
                self._process.is_dying = True
                raise Killed
            result = self._real.execute(sql, *args)
            if fault == "kills after":
                self._process.is_dying = True
                raise Killed
            if fault == "fails though done":
                raise _io_error()
            return result
        return self._real.execute(sql, *args)


def _io_error() -> Exception:
    error: Exception = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_WRITE"  # type: ignore[attr-defined]
    return error


class Process:
    """What an API process and a worker have in common."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.loop = VirtualLoop(world.clock)
        self.fault = ""
        self.is_dying = False
        self.is_slow = True
        self.is_stopping = False
        self.main: asyncio.Task[Any]

    def kill(self, arrives: int = 0) -> None:
        """kill -9; so much of what it sent still arrives at the broker."""
        for connection in self.world.connections_of(self):
            connection.cut(arrives, 0)
            connection.to_client.clear()
            connection.is_closed = True
        self.loop.kill()


class Worker(Process):
    """A worker process: all of `appliance worker` but its pulse and its signals."""

    def __init__(self, world: "World") -> None:
        super().__init__(world)
        self._writers: list[Any] = []
        self._consumer = world.parts.consumer(world.config)
        self._deleter = Deleter(world.store.deletions.work)
        self._deleter._awake, self._deleter._stopping = (StrandEvent(world.clock) for _ in range(2))
        self._mover = DelayedMover(world.store.delayed, self._open_writer, world.store.handling)
        self._mover._awake, self._mover._stopping = (StrandEvent(world.clock) for _ in range(2))
        self._copier = ReplayCopier(world.store.replays, self._open_writer)
        self._copier._awake, self._copier._stopping = (StrandEvent(world.clock) for _ in range(2))
        self._worker = world.parts.worker(
            _Pulse(),
            self._consumer,
            self._open_writer,
            allowance(world.config),
            ForeignFitter(world.store).fitted_all,
            self._deleter,
            self._mover,
            self._copier,
        )
        self.arrived = StrandQueue(world.clock)
        self._worker._deliveries = self.arrived
        self._worker._stopping = StrandEvent(world.clock)
        self.main = self.loop.create_task(self._worker.run())

    def _open_writer(self) -> Any:
        writer: Any = self.world.store.open_writer()
        writer._connection = _Connection(writer._connection, self)
        self._writers.append(writer)
        return writer

    def stop(self) -> None:
        """SIGTERM."""
        self.is_stopping = True
        handler = self.loop.signal_handlers.get(signal.SIGTERM)
        if handler is not None:
            self.loop.call(handler)
        else:
            self.is_dying = True  # it has none yet

    def kill(self, arrives: int = 0) -> None:
        super().kill(arrives)
        for writer in self._writers:
            writer.close()


class Api(Process):
    """An API process without its HTTP side: the publisher, and redrives."""

    def __init__(self, world: "World") -> None:
        super().__init__(world)
        self.publisher = world.parts.publisher(world.config)
        self.publisher._outbox._clock = world.clock.monotonic
        self._redriver = world.parts.redriver(world.config, world.store.dead_letters, self._publish)
        self.unanswered: list[Attempt] = []
        self.main = self.loop.create_task(self.publisher.run())
        self._ids = IdSource()

    def post(self, topic: str, body: bytes, key: str) -> None:
        message_id = key_prefix(topic, key) + "00000000" if key else self._ids.new()
        attempt = self.world.attempt(topic, message_id, body, self)
        message = Message(message_id, now(), body, *beside(body))
        self._send([attempt], lambda: self.publisher.post(topic, message))

    def post_batch(self, topic: str, lines: list[bytes], key: str) -> None:
        prefix = key_prefix(topic, key) if key else self._ids.prefix()
        attempts, at = self._attempts(topic, prefix, lines), now()
        if len(lines) % 2:
            send = partial(self.publisher.post_envelope, batch(topic, prefix, at, lines))
        else:  # as the lines of a small batch, which share an envelope with other messages
            messages = [Message(a.id, at, a.body) for a in attempts]
            send = partial(self.publisher.post_batch, topic, messages)
        self._send(attempts, send)

    def post_with_a_bad_line(self, topic: str, lines: list[bytes]) -> None:
        """Send lines of which the second is to be a dead letter."""
        prefix = self._ids.prefix()
        attempts = self._attempts(topic, prefix, lines)
        messages = [Message(a.id, now(), a.body, *beside(a.body)) for a in attempts]
        messages[1] = messages[1]._replace(dead=("bad-line", "a test wants it so"))
        envelope = pack(topic, messages, sum(map(len, lines)))
        self._send(attempts, lambda: self.publisher.post_envelope(envelope))

    def _attempts(self, topic: str, prefix: str, lines: list[bytes]) -> list[Attempt]:
        return [self.world.attempt(topic, f"{prefix}{n:08x}", b, self) for n, b in enumerate(lines)]

    def _send(self, attempts: list[Attempt], send: Callable[[], Any]) -> None:
        self.unanswered += attempts

        def answered(future: Any) -> None:
            error = None if future.cancelled() else future.exception()
            answer = {type(None): "kept", RefusedError: "refused", DeadlineError: "unknown"}
            for attempt in attempts:
                self.unanswered.remove(attempt)
                self.world.answered(attempt, answer[type(error)])

        try:
            future = self.loop.call(send)
        except RefusedError:
            for attempt in attempts:
                self.unanswered.remove(attempt)
                self.world.answered(attempt, "refused")
        else:
            future.add_done_callback(answered)

    def redrive(self, seq: int) -> None:
        """Send a dead letter again, on a thread of this process."""
        letter = self.world.store.dead_letters.find(seq)
        if letter is None:
            return
        self.world.redriving(letter, self._redriver)
        self.loop.start_strand(lambda: self._redrive(letter))

    def _redrive(self, letter: Any) -> None:
        with contextlib.suppress(ApplianceError):
            self._redriver.redrive(letter)

    def _publish(self, envelope: Any) -> None:
        sent: list[Any] = []

        def send() -> None:
            try:
                sent.append(self.publisher.post_envelope(envelope))
            except RefusedError as error:
                failed = self.loop.create_future()
                failed.set_exception(error)
                sent.append(failed)

        self.loop.call_soon_threadsafe(send)
        park(wakes=lambda: bool(sent) and sent[0].done())
        sent[0].result()

    def stop(self) -> None:
        """End as SIGTERM does, when the HTTP side has ended."""
        self.is_stopping = True
        self.stopping = self.loop.create_task(self.publisher.stop())

    def kill(self, arrives: int = 0) -> None:
        self.unanswered.clear()  # its clients have no answer
        super().kill(arrives)
        descriptor = self.publisher._record._descriptor
        if descriptor is not None:
            os.close(descriptor)


class World:
    """Everything, and the journal of the clients."""

    def __init__(self, folder: Path, template: Path, parts: Parts, *, own_broker: bool) -> None:
        shutil.copytree(template, folder)
        settings = {"APPLIANCE_DATA": str(folder), "APPLIANCE_PUBLISH_TIMEOUT": "3"}
        if not own_broker:
            settings["APPLIANCE_BROKER_URL"] = "amqp://elsewhere"
        self.config = configuration.load(settings)
        self.parts = parts
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self.store = open_store(self.config)
        self.journal: list[Attempt] = []
        #: Envelopes that the broker lost, by source and number, and the messages in them.
        self.lost_envelopes: set[tuple[str, int]] = set()
        self.lost_messages: set[str] = set()
        #: Envelopes that were not kept, which an envelope that was lost would have said.
        self.lost_words: set[tuple[str, int]] = set()
        #: Sources that have sent the store all that they know.
        self.complete: set[str] = set()
        self.apis: list[Api] = []
        self.workers: list[Worker] = []
        self._events = 0
        #: Id of a redriven letter's message -> what the letter was.
        self.redriven: dict[str, tuple[str, str, bytes]] = {}
        self._closing = contextlib.ExitStack()
        self._closing.enter_context(self._replaced())

    @contextlib.contextmanager
    def _replaced(self) -> Iterator[None]:
        async def resolve(each: Any) -> Any:
            return each

        changes: list[tuple[Any, str, Any]] = [
            (link, "FrameConnection", self.broker.connect),
            (link, "resolve", resolve),
            (publisher, "_SWEEP", 0.25),  # fewer turns, and nothing else is different
            *((m, "time", self.clock) for m in (link, shard_turns, topology, publisher, ticks)),
            *((m, "time", self.clock) for m in (appliance.worker, appliance.replay_copier)),
            *self.parts.patches,
        ]
        with contextlib.ExitStack() as stack:
            for owner, name, value in changes:
                stack.enter_context(mock.patch.object(owner, name, value))
            yield

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.store.reader.close()
        self._closing.close()
        shutil.rmtree(self.config.data)

    # --- the journal

    def _event(self) -> int:
        self._events += 1
        return self._events

    def broker_loses(self) -> None:
        """Have the broker lose an envelope that was on its disk; no report of a ledger."""
        stored = self.broker.drop()
        if stored is None:
            return
        content = EnvelopeReader(10**6, lambda _: True).read(
            stored.key, stored.properties, stored.body
        )
        assert isinstance(content, Envelope)
        for message in unpack(content):
            # A redriven letter's message has an id of its own: who posted it knows the letter's.
            origin, *_ = self.redriven.get(message.id, (message.id,))
            self.lost_messages |= {message.id, origin}
        entry = ledger.read(content.ledger)
        if entry is not None and entry.number is not None:
            self.lost_envelopes.add((entry.source, entry.number))
            for first, last in entry.not_kept:
                self.lost_words |= {(entry.source, n) for n in range(first, last + 1)}

    def attempt(self, topic: str, message_id: str, body: bytes, process: object = None) -> Attempt:
        made = Attempt(topic, message_id, body, self._event(), process)
        self.journal.append(made)
        return made

    def answered(self, attempt: Attempt, answer: str) -> None:
        attempt.answered, attempt.answer = self._event(), answer

    def redriving(self, letter: Any, redriver: Any) -> None:
        body = letter.body if letter.body is not None else b""
        message_id = redriver._envelope(letter, None).id
        self.redriven[message_id] = (letter.id, letter.topic, body)

    # --- what runs

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    def connections_of(self, process: Process) -> list[Any]:
        return [each for each in self.broker.known if each._loop is process.loop]

    def bury(self) -> None:
        """Take out what has died or ended."""
        for process in self.processes:
            ended = process.main.done()
            if not (process.is_dying or ended):
                continue
            if ended and not process.is_dying:
                assert process.main.exception() is None
            process.kill(100)
            (self.apis if isinstance(process, Api) else self.workers).remove(process)
        self.broker.known = [
            each
            for each in self.broker.known
            if not (each.is_closed and not each.to_client) or each.to_broker
        ]

    def step(self) -> bool:
        """Let everyone do what can be done now, once; return whether there was anything."""
        worked = False
        for process in list(self.processes):
            worked |= process.loop.run_ready()
            worked |= process.loop.run_strands()
        self.bury()
        for connection in list(self.broker.known):
            worked |= connection.read()
        worked |= self.broker.sync()
        worked |= self.broker.deliver()
        for connection in list(self.broker.known):
            worked |= connection.receive()
        return worked

    def flow(self, seconds: float = 0.0) -> None:
        """Let everything run for some time, with nothing in its way."""
        until = self.clock.now + seconds
        while True:
            for _ in range(1000):
                if not self.step():
                    break
            else:
                raise AssertionError("it never comes to rest")
            upcoming = min(
                [process.loop.next_time() for process in self.processes], default=FOREVER
            )
            if upcoming > until:
                self.clock.now = until
                return
            self.clock.now = max(self.clock.now, upcoming)

    def wait(self, seconds: float) -> None:
        """Let time pass while nothing moves on the network, and nothing is stored."""
        until = self.clock.now + seconds
        while True:
            for process in self.processes:
                process.loop.run_ready()
            upcoming = min(
                [
                    process.loop._scheduled[0].when()
                    for process in self.processes
                    if process.loop._scheduled
                ],
                default=FOREVER,
            )
            if upcoming > until:
                self.clock.now = until
                return
            self.clock.now = max(self.clock.now, upcoming)

    def mend(self) -> None:
        """Start the broker, if it is down, and take the faults from the database."""
        self.broker.start()
        for process in self.processes:
            process.fault, process.is_slow = "", False

    # --- the end

    def settle(self) -> None:
        """Mend all that is broken, and let it run until nothing is under way; then end it all."""
        self.mend()
        if all(each.is_stopping for each in self.apis):
            self.apis.append(Api(self))
        if all(each.is_stopping for each in self.workers):
            self.workers.append(Worker(self))
        self._flow_until(lambda: not self._unanswered(), "a request waits for ever")
        self._flow_until(self._is_drained, "the queue is not empty, and nobody works")
        api = next(each for each in self.apis if not each.is_stopping)
        for seq in self._cut_off():
            api.redrive(seq)
            self._flow_until(lambda: not api.loop.is_busy(), "a redrive does not end")
        for api in list(self.apis):
            self.complete.add(api.publisher._numbering.source)
            if not api.is_stopping:
                api.stop()
        self._flow_until(lambda: not self.apis, "an API process does not end")
        # The next process sends the last words of those that were killed.
        self.apis.append(Api(self))
        self.flow(4.0)
        self.apis[0].stop()
        self._flow_until(lambda: not self.apis, "an API process does not end")
        self._flow_until(self._is_drained, "the queue is not empty, and nobody works")
        for worker in list(self.workers):
            if not worker.is_stopping:
                worker.stop()
        self._flow_until(lambda: not self.processes, "a worker does not end")
        assert not self.broker.depth(), "what was acknowledged is in the queue"

    def _flow_until(self, over: Callable[[], bool], complaint: str) -> None:
        until = self.clock.now + 40
        while not over():
            assert self.clock.now < until, complaint
            self.flow(0.5)

    def _unanswered(self) -> bool:
        return any(api.unanswered for api in self.apis)

    def _is_drained(self) -> bool:
        # A worker whose connection is lost has one more to store, perhaps.
        return not self.broker.depth() and all(w.arrived.is_empty() for w in self.workers)

    def _cut_off(self) -> list[int]:
        """Return the letters of redrives that were cut off, for people to repeat."""
        found = set(self.redriven.values())
        return [seq for seq, *origin, _ in self.letters() if tuple(origin) in found]

    def rows(self) -> list[tuple[int, str, str, bytes]]:
        return [
            (seq, i, topic, body.encode() if isinstance(body, str) else body)
            for seq, i, topic, body in self._query("SELECT seq, id, topic, body FROM messages")
        ]

    def letters(self) -> list[tuple[int, str, str, bytes, str]]:
        return [
            (letter.seq, letter.id, letter.topic, letter.body, letter.reason)
            for letter in self.store.dead_letters.page(Choice(after=0), 1000).rows
        ]

    def _query(self, sql: str) -> list[Any]:
        connection = sqlite3.connect(self.store.path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def check(self, *, in_order: bool) -> None:
        """Compare what was promised with what is there."""
        rows, letters = self.rows(), self.letters()
        there = Counter((i, topic, body) for _, i, topic, body in rows if i not in self.redriven)
        there.update((i, topic, body) for _, i, topic, body, _ in letters)
        there.update(self.redriven[i] for _, i, _, _ in rows if i in self.redriven)
        posted = {(each.id, each.topic, each.body) for each in self.journal}
        promised = {(a.id, a.topic, a.body) for a in self.journal if a.answer == "kept"}
        lost = promised - set(there)
        lost = {message for message in lost if message[0] not in self.lost_messages}
        assert not lost, f"lost: {lost}"
        doubled = [message for message, count in there.items() if count > 1]
        assert not doubled, f"doubled: {doubled}"
        assert set(there) <= posted, "nobody has sent that"
        self._check_what_is_beside(posted)
        if in_order:
            self._check_order(rows)
        topics = {t: (n, b) for t, n, b in self._query("SELECT topic, messages, bytes FROM topics")}
        counted = Counter(topic for _, _, topic, _ in rows)
        sizes: Counter[str] = Counter()
        for _, _, topic, body in rows:
            sizes[topic] += len(body)
        assert topics == {t: (counted[t], sizes[t]) for t in counted}, "the counters are wrong"
        self._check_ledger()

    def _check_ledger(self) -> None:
        """What it calls missing is lost; and all that is lost of a source that told it all."""
        for source, text, settled, missing in self._query(
            "SELECT source, accounted, settled, missing FROM sources"
        ):
            accounted = ledger_accounting.read_ranges(text)
            gaps = _numbers(ledger.holes(accounted, 0, settled))
            assert len(gaps) == missing
            lost = {number for of, number in self.lost_envelopes if of == source}
            unsaid = {number for of, number in self.lost_words if of == source}
            assert gaps <= lost | unsaid, f"the ledger calls {gaps - lost - unsaid} missing"
            if source in self.complete:
                lost -= _numbers(accounted)  # another copy of it came
                assert lost <= gaps, f"the ledger does not miss {lost - gaps}"
        for entry in last_words.recorded(self.config.data):
            assert not self.store.unaccounted(entry), "the ledger lacks what is settled"

    def _check_what_is_beside(self, posted: set[tuple[str, str, bytes]]) -> None:
        """Whatever has a content type or meta has those that came with its body."""
        for table in ("messages", "dead_letters"):
            columns = "id, topic, CAST(body AS BLOB), content_type, meta"
            for *message, content_type, meta in self._query(f"SELECT {columns} FROM {table}"):
                if tuple(message) in posted and meta and "amqp" not in meta:
                    assert (content_type, meta) == beside(message[2]), f"not its own: {message}"

    def _check_order(self, rows: list[tuple[int, str, str, bytes]]) -> None:
        """Of one topic, what was sent after another's answer is stored after it.

        So is what one process was given after the other, answered or not.
        """
        times = Counter(attempt.id for attempt in self.journal)
        seqs = {(i, body): seq for seq, i, _, body in rows}
        kept = [
            (attempt, seqs[attempt.id, attempt.body])
            for attempt in self.journal
            if attempt.answer == "kept"
            and times[attempt.id] == 1
            and (attempt.id, attempt.body) in seqs
        ]
        for first, first_seq in kept:
            for second, second_seq in kept:
                follows = first.answered < second.posted or (
                    first.posted < second.posted and first.process is second.process is not None
                )
                if first.topic == second.topic and follows:
                    assert first_seq < second_seq, f"out of order: {first}, {second}"


def _numbers(ranges: list[list[int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


def quiet() -> None:
    """Keep the log out of the way: each fault is one line of it, thousands of times."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def make_template(folder: Path) -> Path:
    """Make a data folder with an empty database, to be copied."""
    open_store(configuration.load({"APPLIANCE_DATA": str(folder)})).migrate()
    return folder
