"""The state machine: what can happen to an appliance, one rule each, in any order."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from world import COMMIT_FAULTS, Api, Parts, Process, Worker, World

from appliance.errors import RedriveError, TopicError
from appliance.model.ids import key_prefix

#: Which of several; taken modulo how many there are.
WHICH = st.integers(0, 3)
#: How much of what is under way: nothing, a little, all.
SOME = st.sampled_from([0, 1, 2, 5, 1000])
TOPICS = st.sampled_from(["a", "a", "b"])
#: A part that goes on by itself.
MOVES = (
    "a process runs",
    "its threads run",
    "the broker reads",
    "the client hears",
    "the broker syncs",
    "the broker delivers",
)
#: Most requests have no idempotency key; the others have one of two, so that keys meet.
KEYS = st.sampled_from(["", "", "", "k", "l"])
#: Seconds after which queues that were made anew survive a crash, and are used.
SETTLED = 4.0
SECONDS = st.sampled_from([0.0, 0.06, 0.3, 0.6, 2.1, 6.0])


class PromiseMachine(RuleBasedStateMachine):
    """An appliance on a broker that keeps RabbitMQ's promises; `make` gives its template."""

    template: Path
    parts: Callable[[], Parts] = Parts
    in_order = True

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=self.template.parent)
        self.world: World | None = None
        self._bodies = 0
        #: Someone has deleted the queues, and there may be no new ones that a crash would leave.
        self._were_deleted = False

    @initialize(
        own_broker=st.booleans(),
        workers=st.integers(1, 2),
        seconds=st.sampled_from([0.0, 0.3, 3.0, 3.0]),
    )
    def begin(self, own_broker: bool, workers: int, seconds: float) -> None:
        self.world = World(
            Path(self._folder.name) / "data",
            self.template,
            type(self).parts(),
            own_broker=own_broker,
        )
        self.world.apis.append(Api(self.world))
        for _ in range(workers):
            self.world.workers.append(Worker(self.world))
        self.world.flow(seconds)

    # --- clients

    def _body(self, key: str) -> bytes:
        """Return a body: two for all of one key, so that some are a retry and some a conflict."""
        self._bodies += 1
        return b"%d" % (self._bodies % 2 if key else self._bodies)

    def _api(self, which: int) -> Api | None:
        apis = [each for each in self.world.apis if not each.is_stopping]
        return apis[which % len(apis)] if apis else None

    @rule(which=WHICH, topic=TOPICS, key=KEYS)
    def post(self, which: int, topic: str, key: str) -> None:
        if api := self._api(which):
            api.post(topic, self._body(key), key)

    @rule(which=WHICH, topic=TOPICS, count=st.integers(1, 6))
    def post_many(self, which: int, topic: str, count: int) -> None:
        """Several at once, which may share an envelope."""
        if api := self._api(which):
            for _ in range(count):
                api.post(topic, self._body(""), "")

    @rule(which=WHICH, topic=TOPICS, key=KEYS)
    def post_batch(self, which: int, topic: str, key: str) -> None:
        if api := self._api(which):
            api.post_batch(topic, [self._body(key), self._body("")], key)

    @rule(which=WHICH, topic=TOPICS)
    def post_with_a_bad_line(self, which: int, topic: str) -> None:
        """A batch that asks for its bad lines to become dead letters."""
        if api := self._api(which):
            api.post_with_a_bad_line(topic, [self._body("") for _ in range(3)])

    @rule(which=WHICH, topic=TOPICS)
    def post_and_wait(self, which: int, topic: str) -> None:
        """A client that sends one after another."""
        if api := self._api(which):
            api.post(topic, self._body(""), "")
            self.world.flow(0.1)

    @precondition(lambda self: self.world.broker.is_up)
    @rule(key=KEYS, readable=st.booleans())
    def publish_by_amqp(self, key: str, readable: bool) -> None:
        """Another program's message; without a name it may be stored twice, which is documented."""
        name = f"foreign-{key}-{self._bodies}"
        body = self._body("")
        attempt = self.world.attempt("a", key_prefix("a", name) + "00000000", body)
        properties = pika.BasicProperties(
            message_id=name, type=None if readable else "appliance.pack"
        )
        self.world.broker.publish_foreign(
            "a", properties, body, lambda: self.world.answered(attempt, "kept")
        )

    @rule(which=WHICH, letter=WHICH)
    def redrive(self, which: int, letter: int) -> None:
        letters = self.world.letters()
        if (api := self._api(which)) and letters:
            with contextlib.suppress(RedriveError, TopicError):
                api.redrive(letters[letter % len(letters)][0])

    # --- time, network, disk

    @rule(seconds=SECONDS)
    def flow(self, seconds: float) -> None:
        self.world.flow(seconds)

    @rule(seconds=SECONDS)
    def nothing_moves(self, seconds: float) -> None:
        self.world.wait(seconds)

    def _process(self, which: int) -> Process | None:
        processes = self.world.processes
        return processes[which % len(processes)] if processes else None

    def _connection(self, which: int) -> Any:
        known = self.world.broker.known
        return known[which % len(known)] if known else None

    @rule(move=st.sampled_from(MOVES), which=WHICH, most=SOME)
    def one_moves(self, move: str, which: int, most: int) -> None:
        """One part of it goes on, while all others stand still."""
        broker, process = self.world.broker, self._process(which)
        connection = self._connection(which)
        if move == "a process runs" and process:
            process.loop.run_ready()
        elif move == "its threads run" and process:
            if isinstance(process, Worker):
                process.arrived.within_reach = max(1, most)
            process.loop.run_strands()
            if isinstance(process, Worker):
                process.arrived.within_reach = 10**6
        elif move == "the broker reads" and connection:
            connection.read(most)
        elif move == "the client hears" and connection:
            connection.receive(most)
        elif move == "the broker syncs":
            broker.sync(most)
        elif move == "the broker delivers":
            broker.deliver(most)
        self.world.bury()

    # --- faults

    @rule(which=WHICH, arrives=SOME, heard=SOME)
    def connection_breaks(self, which: int, arrives: int, heard: int) -> None:
        if connection := self._connection(which):
            connection.cut(arrives, heard)

    @precondition(lambda self: self.world.broker.is_up)
    @rule(on_disk=SOME, heard=SOME, starts_again=st.booleans())
    def broker_crashes(self, on_disk: int, heard: int, starts_again: bool) -> None:
        self.world.broker.crash(on_disk, heard)
        if starts_again:
            self.world.broker.start()

    @rule(seconds=SECONDS, which=WHICH, topic=TOPICS)
    def queue_is_full(self, seconds: float, which: int, topic: str) -> None:
        """For a while, in which someone posts."""
        self.world.broker.is_full = True
        self.post(which, topic, "")
        self.world.flow(seconds)
        self.world.broker.is_full = False

    @rule(seconds=SECONDS, which=WHICH, topic=TOPICS)
    def broker_has_an_alarm(self, seconds: float, which: int, topic: str) -> None:
        """For a while, in which someone posts."""
        self.world.broker.set_alarm(True)
        self.post(which, topic, "")
        self.world.flow(seconds)
        self.world.broker.set_alarm(False)

    @rule(which=WHICH, arrives=SOME, starts_again=st.booleans())
    def process_is_killed(self, which: int, arrives: int, starts_again: bool) -> None:
        if process := self._process(which):
            process.kill(arrives)
            processes: Any = self.world.apis if isinstance(process, Api) else self.world.workers
            processes.remove(process)
            if starts_again:
                processes.append(type(process)(self.world))

    @rule(which=WHICH)
    def process_is_stopped(self, which: int) -> None:
        process = self._process(which)
        if process and not process.is_stopping:
            process.stop()

    @rule(seconds=SECONDS, apis=st.integers(1, 2), workers=st.integers(1, 2))
    def all_is_mended(self, seconds: float, apis: int, workers: int) -> None:
        self.world.mend()
        while len(self.world.apis) < apis:
            if self.world.apis and self._were_deleted:
                self.world.flow(SETTLED)  # the first one alone makes them again
                self._were_deleted = False
            self.world.apis.append(Api(self.world))
        while len(self.world.workers) < workers:
            self.world.workers.append(Worker(self.world))
        self.world.flow(seconds)

    @rule(
        which=WHICH,
        fault=st.sampled_from(COMMIT_FAULTS),
        topic=TOPICS,
        seconds=SECONDS,
        end=st.sampled_from(["it stays so", "it is killed", "it is mended"]),
    )
    def commits_go_wrong(
        self, which: int, fault: str, topic: str, seconds: float, end: str
    ) -> None:
        """Of a worker, while someone posts."""
        workers = self.world.workers
        if not workers:
            return
        worker = workers[which % len(workers)]
        worker.fault, worker.is_slow = fault, True
        self.post_many(which, topic, 2)
        self.world.flow(seconds)
        if end == "it is mended":
            worker.fault, worker.is_slow = "", False
        elif end == "it is killed" and worker in workers:
            worker.kill()
            workers.remove(worker)
            workers.append(Worker(self.world))

    @rule(which=WHICH, topic=TOPICS, seconds=SECONDS, on_disk=SOME, heard=SOME)
    def broker_crashes_under_load(
        self, which: int, topic: str, seconds: float, on_disk: int, heard: int
    ) -> None:
        self.post_many(which, topic, 3)
        self.world.flow(seconds)
        self.world.broker.crash(on_disk, heard)
        self.world.broker.start()

    @precondition(lambda self: not self.world.broker.depth() and len(self.world.apis) < 2)
    @rule(which=WHICH, topic=TOPICS, seconds=SECONDS, crashes=st.booleans())
    def queues_are_deleted(self, which: int, topic: str, seconds: float, crashes: bool) -> None:
        """While they are empty; what is sent then needs a new one.

        There is one API process, until there are new queues: a second one that does not notice
        takes the queue that the other one has made again for the old one. Should the broker crash
        within half a second of that, its messages are lost.
        """
        self.world.broker.delete_queues()
        self._were_deleted = True
        self.post_many(which, topic, 2)
        self.world.flow(seconds)
        if crashes:
            self.world.broker.crash(1000, 1000)
            self.world.broker.start()

    # --- the end

    def teardown(self) -> None:
        try:
            if self.world is not None:
                self.world.settle()
                self.world.check(in_order=self.in_order)
        finally:
            if self.world is not None:
                self.world.close()
            self._folder.cleanup()


class WorseBrokerMachine(PromiseMachine):
    """On a broker that delivers in any order what comes again, and some of it twice."""

    in_order = False

    @rule()
    def broker_doubles(self) -> None:
        self.world.broker.reorders = True
        self.world.broker.duplicate()


class LosingBrokerMachine(PromiseMachine):
    """On a broker that loses what it had on disk: the ledger must say so, and say nothing else.

    The order can suffer: where an envelope was sent twice and the first copy is lost, the second
    one is stored behind the envelopes between them.
    """

    in_order = False

    @rule(which=WHICH, topic=TOPICS)
    def broker_loses(self, which: int, topic: str) -> None:
        """Of what is posted now, and before."""
        self.post_many(which, topic, 2)
        for _ in range(4):
            self.one_moves("a process runs", which, 1000)
            self.one_moves("the broker reads", which, 1000)
        self.world.broker.sync()
        self.world.broker_loses()
