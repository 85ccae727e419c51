"""The probe asks whether the broker serves, end to end: publish, confirm, consume.

A broker can run, take connections and yet do nothing: stopped, or stuck since its disk was full
(rabbitmq-server#17156). Only a message that goes all the way shows that it works. So one small
message travels every few seconds through a quorum queue of the probe's own, which lives by the same
log as the queue of messages. (Some hundred bytes each; the broker's ordinary snapshots free them.)

The queue of messages can be given up while the probe's lives on. So the probe also heeds how long
an API has waited for that queue.

And the disk can have refused entries that were confirmed, which the queue would miss only when it
comes to them: the node must start anew, which puts them back (see node/log_copies).

An alarm, which blocks publishers, is no hang (the consuming connection is then asked instead).
Nor is a closed port: that broker starts or is down, which is its supervisor's concern.
A broker of our own that hangs is killed, and its supervisor starts it again.
"""

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import pika
import pika.exceptions
import structlog

from appliance.broker.base import PROBE_FACT, STALL_FACT, ProbeState
from appliance.broker.broker_addresses import parameters, resolve
from appliance.broker.link import Link
from appliance.broker.node import log_copies, process, queue_snapshots
from appliance.config import Config
from appliance.errors import BrokerError, NodeError
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import Pulse
from appliance.machine.signs import Sign, signs
from appliance.machine.ticks import tick

_QUEUE: Final = "appliance.probe"
#: The loop that the probe beats for.
LOOP: Final = "probing"

#: Seconds between two messages.
_PERIOD: Final = 5.0
#: Seconds for one to come back, far longer than a busy broker needs.
_DEADLINE: Final = 10.0
#: Seconds for a TCP connection to be taken, which the kernel does.
_TCP_TIMEOUT: Final = 2.0
#: Seconds of failing that are not worth a line: a broker that has just started takes connections
#: a moment before ours are made.
_GRACE: Final = 5.0
#: A pause between two looks counts as this many seconds at most: for longer, we were stopped too.
_LONGEST_STEP: Final = 15.0
#: Seconds between two looks at the logs of the queues, and looks that must all find entries gone.
_LOG_PERIOD: Final = 1.0
_LOOKS: Final = 3
#: A broker that has not served since it was away is still starting, and where many programs start
#: with it, on a slow machine, it is slow to answer: that counts as this many times the limit.
_START_PATIENCE: Final = 4
#: Where a restart did not help, the next one comes after twice the time, this many times at most.
_MOST_PATIENCE: Final = 16
#: Seconds that a stop waits for the connections to be closed.
_CLOSING: Final = 2.0

_ARGUMENTS: Final = {"x-queue-type": "quorum", "x-max-length": 16}

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of a look at the broker."""

    state: ProbeState
    reason: str
    #: Seconds for which the broker has failed without a pause.
    failing_seconds: float
    #: How often the broker was killed for that.
    restarts: int


class Judge:
    """Decides from the looks when a broker that fails is to be restarted; `limit` in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._is_starting = True
        self._last: float | None = None
        self._patience = 1
        self.failing_seconds = 0.0

    def restart(self, now: float, state: ProbeState, *, trouble: bool = False) -> bool:
        """Take the state that a look at `now` (monotonic) showed; return whether to restart.

        `trouble` says that it serves the probe, and yet fails.
        """
        step = min(now - self._last, _LONGEST_STEP) if self._last is not None else 0.0
        self._last = now
        if state is ProbeState.SERVES:
            self._patience = 1
        if state in (ProbeState.SERVES, ProbeState.BLOCKED) or trouble:
            self._is_starting = False
        elif state is ProbeState.AWAY:
            self._is_starting = True
        if state is not ProbeState.FAILS:
            self.failing_seconds = 0.0
            return False
        self.failing_seconds += step
        patience = max(self._patience, _START_PATIENCE if self._is_starting else 1)
        if self.failing_seconds < self._limit * patience:
            return False
        self.failing_seconds = 0.0
        self._patience = min(self._patience * 2, _MOST_PATIENCE)
        return True


class Lacking:
    """Tells from the looks at the logs whether a queue lacks entries that were confirmed.

    One look is not enough: a segment can go, behind a snapshot, while it is looked for.
    """

    def __init__(self) -> None:
        self._looks: dict[str, int] = {}

    def look(self, queues: Iterable[str]) -> None:
        """Take the folders of the queues that lack entries."""
        self._looks = {name: self._looks.get(name, 0) + 1 for name in queues}

    @property
    def reason(self) -> str:
        """What is wrong, in a few words; empty while nothing is."""
        names = [name for name, looks in self._looks.items() if looks >= _LOOKS]
        return f"its disk refused entries of {', '.join(names)}" if names else ""


class Probe:
    """Probes on the running event loop; `on_result` is given each result."""

    def __init__(self, config: Config, on_result: Callable[[ProbeResult], None]) -> None:
        self._config = config
        self._on_result = on_result
        self._judge = Judge(config.hang_timeout)
        self._restarts = 0
        self._lacking = Lacking()
        self._complaint = Complaint(_log, "broker unresponsive", "broker responsive again")
        # Two connections: an alarm holds back whatever is said on one that publishes.
        self._out = Link(
            config,
            self._open_out,
            lambda _: self._open.discard(self._out),
            self._blocked_changed,
            quiet=True,
        )
        self._back = Link(
            config, self._open_back, lambda _: self._open.discard(self._back), quiet=True
        )
        self._open: set[Link] = set()
        self._blocked = False
        self._token = b""
        self._missing: set[str] = set()
        self._arrived: asyncio.Future[ProbeState] | None = None

    async def run(self) -> None:
        """Probe until `stop`."""
        links = asyncio.gather(self._out.run(), self._back.run())
        chores = [asyncio.create_task(self._probe())]
        if not self._config.broker_urls:
            chores.append(asyncio.create_task(self._keep_logs()))
        running: set[asyncio.Future[Any]] = {links, *chores}
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for chore in chores:
            if chore.done():
                chore.result()  # only a fault ends it
            chore.cancel()
        await asyncio.gather(links, *chores, return_exceptions=True)

    def stop(self) -> None:
        """End the connections and `run`."""
        self._out.stop()
        self._back.stop()

    async def _probe(self) -> None:
        while True:
            state, reason = await self._look()
            trouble = ""
            if state is ProbeState.SERVES:
                trouble = stalled(signs(self._config)) or self._lacking.reason
                state, reason = (ProbeState.FAILS, trouble) if trouble else (state, reason)
            restart = self._judge.restart(time.monotonic(), state, trouble=bool(trouble))
            if restart or self._judge.failing_seconds >= _GRACE or state is ProbeState.SERVES:
                self._log_change(state, reason)
            if restart:
                self._restart(reason)
            seconds = self._judge.failing_seconds
            self._on_result(ProbeResult(state, reason, round(seconds, 1), self._restarts))
            if state is ProbeState.SERVES and not self._config.broker_urls:
                await asyncio.to_thread(self._keep_snapshots)
            await tick(_PERIOD if state is ProbeState.SERVES else 1.0)

    async def _keep_logs(self) -> None:
        """Keep the logs of the queues, as soon as the node begins one."""
        while True:
            # Where the disk fails, those that were kept before are what counts.
            with contextlib.suppress(OSError):
                queues = await asyncio.to_thread(log_copies.keep, self._config.broker_home)
                self._lacking.look(queues)
            await tick(_LOG_PERIOD)

    def _log_change(self, state: ProbeState, reason: str) -> None:
        """Log where a failure begins and ends."""
        if state is ProbeState.FAILS:
            self._complaint.fails(reason=reason)
        elif state is ProbeState.SERVES:
            self._complaint.works()

    def _keep_snapshots(self) -> None:
        # Where the disk fails, those that were kept before are what counts.
        with contextlib.suppress(OSError):
            queue_snapshots.keep(self._config.broker_home)

    def _restart(self, reason: str) -> None:
        if self._config.broker_urls:
            return  # not ours to kill; the result says it
        try:
            pid = process.kill(self._config)
        except NodeError as error:
            _log.error("hung broker not killed", reason=reason, error=str(error))
        else:
            self._restarts += 1
            _log.error("hung broker killed", reason=reason, pid=pid)

    async def _look(self) -> tuple[ProbeState, str]:
        if self._open != {self._out, self._back}:
            return await self._knock()
        try:
            if self._blocked:
                return await self._ask()
            return await self._send()
        except (BrokerError, pika.exceptions.AMQPError) as error:
            return await self._knock(str(error))

    async def _knock(self, reason: str = "it answers no AMQP") -> tuple[ProbeState, str]:
        """Tell a broker that is away from one that only its kernel answers for.

        A cluster is away when each of its addresses is.
        """
        try:
            addresses = await resolve(parameters(self._config))
        except BrokerError as error:
            return ProbeState.AWAY, str(error)
        outcome = (ProbeState.AWAY, "no connection")
        for address in addresses:
            try:
                async with asyncio.timeout(_TCP_TIMEOUT):
                    _, writer = await asyncio.open_connection(address.host, address.port)
            except TimeoutError:
                outcome = ProbeState.FAILS, "it takes no connection"
            except OSError as error:
                if outcome[0] is ProbeState.AWAY:
                    outcome = ProbeState.AWAY, f"no connection: {error.strerror or error}"
            else:
                writer.transport.abort()
                return ProbeState.FAILS, f"it takes connections, but {reason}"
        return outcome

    async def _ask(self) -> tuple[ProbeState, str]:
        channel: Any = self._back.channel
        await self._back.call(channel.queue_declare, queue=_QUEUE, passive=True)
        return ProbeState.BLOCKED, "an alarm blocks publishers"

    async def _send(self) -> tuple[ProbeState, str]:
        """Send one message and wait until it is confirmed and came back."""
        self._token, self._missing = os.urandom(8), {"confirm", "delivery"}
        self._arrived = asyncio.get_running_loop().create_future()
        self._out.channel.basic_publish(  # type: ignore[union-attr]  # it is open
            "", _QUEUE, self._token, pika.BasicProperties(delivery_mode=2), mandatory=True
        )
        await asyncio.wait([self._arrived], timeout=_DEADLINE)
        if not self._arrived.done():
            missing = " and no ".join(sorted(self._missing))
            for link in (self._out, self._back):
                link.drop("the probe's message did not come back")
            return ProbeState.FAILS, f"no {missing} within {_DEADLINE:.0f} s"
        state = self._arrived.result()
        return state, "an alarm blocks publishers" if state is ProbeState.BLOCKED else ""

    def _came(self, part: str) -> None:
        self._missing.discard(part)
        if not self._missing:
            self._settle(ProbeState.SERVES)

    def _settle(self, state: ProbeState) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(state)

    def _blocked_changed(self, blocked: bool) -> None:
        self._blocked = blocked
        if blocked:
            self._settle(ProbeState.BLOCKED)

    async def _open_out(self, link: Link) -> None:
        channel: Any = link.channel
        self._blocked = False
        await link.call(channel.confirm_delivery, lambda _: self._came("confirm"))
        self._open.add(link)

    async def _open_back(self, link: Link) -> None:
        channel: Any = link.channel
        channel.add_on_cancel_callback(lambda _: link.drop("the probe's queue is gone"))
        await link.call(channel.queue_declare, _QUEUE, durable=True, arguments=dict(_ARGUMENTS))

        def delivered(_: Any, method: Any, __: Any, body: bytes) -> None:
            channel.basic_ack(method.delivery_tag)
            if body == self._token:
                self._came("delivery")

        channel.basic_consume(_QUEUE, delivered)
        self._open.add(link)


def stalled(of_all: Iterable[Sign]) -> str:
    """Return in words that the queue of messages does not serve an API; empty where it does."""
    for sign in of_all:
        stall = sign.facts.get(STALL_FACT)
        if stall and sign.seconds_ago < _DEADLINE and stall["seconds"] >= _DEADLINE:
            return f"the queue of messages: {stall['reason']} for {stall['seconds']} s"
    return ""


@contextlib.contextmanager
def running(config: Config, pulse: Pulse) -> Iterator[None]:
    """Probe in a thread of its own, so that nothing else that this process does delays it."""
    loop = asyncio.new_event_loop()

    def tell(result: ProbeResult) -> None:
        pulse.tell(PROBE_FACT, asdict(result))
        pulse.status(f"the broker: {result.state}")

    async def run() -> None:
        beating = asyncio.create_task(pulse.keep_beating(LOOP))
        await probe.run()
        beating.cancel()

    tell(ProbeResult(ProbeState.UNKNOWN, "", 0.0, 0))
    probe = Probe(config, tell)
    context = contextvars.copy_context()  # what the log's lines say of this process
    thread = threading.Thread(
        target=context.run, args=(loop.run_until_complete, run()), name="probe", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(probe.stop)
        thread.join(_CLOSING)
