"""Publishes each stored message by itself, for subscribers of our own node, and after its commit.

An envelope of the exchange that is published to can hold many messages, and a queue that is bound
there has a say in its confirm: one that is full and refuses would refuse it to the publisher. So
subscribers have exchanges of their own, behind the store. A message there has the original body and
content type; its topic is the routing key, its id the `message_id`, and what is known beside it are
headers, by which the headers exchange matches too.

A cursor says up to which message all are published. It moves after the broker's confirms, so a
crash repeats messages and skips none. While there is no subscriber, nothing is read or published.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson
import pika
import pika.exceptions
import structlog

from appliance.broker.base import MATCH, STORED
from appliance.broker.link import Link
from appliance.broker.node import users
from appliance.config import Config
from appliance.errors import BrokerError, NodeError, StoreError
from appliance.machine import files
from appliance.machine.complaint import Complaint
from appliance.machine.ticks import until_tick
from appliance.model import meta as metas

#: Seconds between two looks for new messages, and for the first subscriber.
_LOOK: Final = 0.2
_USERS_LOOK: Final = 2.0
#: Seconds until the store is read again after an error.
_RETRY: Final = 1.0
#: Seconds for the thread to end.
_CLOSING: Final = 5.0
#: Characters of a header's value; a longer one is left out.
_MOST_HEADER: Final = 1000

_log: Any = structlog.get_logger(__name__)


class Stored(Protocol):
    """A stored message, as the store's rows are."""

    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def received_at(self) -> str: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102
    @property
    def content_type(self) -> str | None: ...  # noqa: D102
    @property
    def meta(self) -> str | None: ...  # noqa: D102


class Behind(NamedTuple):
    """How the feed reads the store.

    `begin` gives a place before all that was received at a time or later, `end` the newest place,
    `part` the messages behind a place, up to another.
    """

    begin: Callable[[str], int]
    end: Callable[[], int]
    part: Callable[[int, int], tuple[Sequence[Stored], int]]


class StoredFeed:
    """Feeds the exchanges of stored messages; used on one event loop."""

    def __init__(self, config: Config, behind: Behind) -> None:
        self._home = config.broker_home
        self._path = self._home / "stored-cursor"
        self._behind = behind
        self._link = Link(config, self._opened, self._lost, quiet=True)
        self._feeding: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._unconfirmed: set[int] = set()
        self._confirmed: asyncio.Future[None] | None = None
        self._since = ""
        self._complaint = Complaint(
            _log, "stored messages not published", "stored messages are published again"
        )

    async def run(self) -> None:
        """Feed until `stop`, once there is a subscriber."""
        while not self._has_subscriber():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), until_tick(_USERS_LOOK))
            if self._stopping.is_set():
                return
        await self._link.run()

    def stop(self) -> None:
        """Have `run` end."""
        self._stopping.set()
        self._link.stop()

    def _has_subscriber(self) -> bool:
        try:
            found = [user.created_at for user in users.read(self._home) if user.subscribes]
        except NodeError as error:
            self._complaint.fails(kind="users", error=str(error))
            return False
        self._since = min(found, default="")
        return bool(found)

    async def _opened(self, link: Link) -> None:
        self._feeding = asyncio.create_task(self._feed(link, link.channel))

    def _lost(self, _: str) -> None:
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None

    async def _feed(self, link: Link, channel: Any) -> None:
        try:
            self._unconfirmed.clear()
            await link.call(
                channel.exchange_declare, exchange=STORED, exchange_type="topic", durable=True
            )
            await link.call(
                channel.exchange_declare, exchange=MATCH, exchange_type="headers", durable=True
            )
            await link.call(
                channel.exchange_bind, destination=MATCH, source=STORED, routing_key="#"
            )
            await link.call(channel.confirm_delivery, self._answered)
            await self._follow(link, channel)
        except (BrokerError, OSError, pika.exceptions.AMQPError) as error:
            self._complaint.fails(kind="broker", error=str(error))
            link.drop(str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the feed for good
            _log.exception("feed failed")
            link.drop(repr(error))

    async def _follow(self, link: Link, channel: Any) -> None:
        place, tag = self._read_cursor(), 0
        while True:
            try:
                if place is None:  # what is stored since the first subscriber was made
                    place = self._behind.begin(self._since)
                    self._write_cursor(place)
                upto = self._behind.end()
                rows, end = self._behind.part(place, upto) if upto > place else ([], place)
            except StoreError as error:
                self._complaint.fails(kind="store", error=str(error))
                await link.pause(_RETRY)
                continue
            if end == place:
                await link.pause(_LOOK)
                continue
            if rows:
                self._confirmed = asyncio.get_running_loop().create_future()
                self._unconfirmed.update(range(tag + 1, tag + 1 + len(rows)))
                for row in rows:
                    channel.basic_publish(STORED, row.topic, row.body, properties(row))
                tag += len(rows)
                await link.wait(self._confirmed)
            place = end
            self._write_cursor(place)
            self._complaint.works()

    def _answered(self, frame: Any) -> None:
        """Take note of a confirm; a refusal is a subscriber's who has said so of its queue."""
        method = frame.method
        if method.multiple:
            self._unconfirmed = {tag for tag in self._unconfirmed if tag > method.delivery_tag}
        else:
            self._unconfirmed.discard(method.delivery_tag)
        if not self._unconfirmed and self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_result(None)

    def _read_cursor(self) -> int | None:
        try:
            return int(self._path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:  # nothing of ours writes that
            raise BrokerError(f"{self._path}: no number; remove it to go on from now") from error

    def _write_cursor(self, place: int) -> None:
        files.write_private(self._path, str(place))


def properties(row: Stored) -> Any:
    """Return the AMQP properties of a stored message."""
    try:
        meta = orjson.loads(row.meta or "{}")
    except orjson.JSONDecodeError:  # written by another program
        meta = {}
    kept = meta.get("headers") if isinstance(meta, dict) else None
    headers: dict[str, Any] = {
        name: value
        for name, value in (kept if isinstance(kept, dict) else {}).items()
        if isinstance(value, str) and len(value) <= _MOST_HEADER and len(name.encode()) <= 255
    }
    headers |= {"topic": row.topic, "seq": row.seq, "received_at": row.received_at}
    return pika.BasicProperties(
        content_type=metas.content_type(row.content_type),
        message_id=row.id,
        delivery_mode=2,
        headers=headers,
    )


@contextlib.contextmanager
def running(config: Config, behind: Behind) -> Iterator[None]:
    """Feed in a thread of its own, where the node is ours."""
    if config.broker_urls:
        yield
        return
    loop = asyncio.new_event_loop()
    feed = StoredFeed(config, behind)
    context = contextvars.copy_context()  # what the log's lines say of this process
    thread = threading.Thread(
        target=context.run, args=(loop.run_until_complete, feed.run()), name="stored", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(feed.stop)
        thread.join(_CLOSING)
