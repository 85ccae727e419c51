"""The engine of deliveries: a courier for each endpoint, and one transaction for their outcomes.

Reads and writes of the database run in one thread. Whether there is anything new is a question that
costs microseconds, asked often while something happens and seldom while nothing does. What came of
attempts is stored about ten times a second; until it is, no courier goes further than what it has
in hand.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.deliver.courier import Courier
from appliance.deliver.delivery_numbers import DeliveryNumbers
from appliance.deliver.delivery_plan import is_same, plan
from appliance.deliver.http_client import HttpClient
from appliance.deliver.stock import CourierBegin
from appliance.errors import InputError, StoreError
from appliance.machine import allowance
from appliance.machine.complaint import Complaint
from appliance.machine.pulse import BEAT_SECONDS, Pulse
from appliance.model import timestamps
from appliance.store.endpoint_rows import DeliveryOutcome, Outfit
from appliance.store.endpoints import Deliveries

#: Seconds between two looks for new messages: while some are delivered, and while none are.
_BUSY_LOOK: Final = 0.02
_IDLE_LOOK: Final = 0.1
#: Seconds for which it is busy after the last attempt.
_BUSY_SECONDS: Final = 2.0
#: Seconds between two transactions, and after one that failed.
_STORE_EVERY: Final = 0.1
_STORE_AGAIN: Final = 1.0
#: Seconds between two readings of the endpoints: where something changed, and in any case, since a
#: secret ends by itself.
_RELOAD: Final = 0.5
_RELOAD_ANYWAY: Final = 30.0
#: Seconds that attempts under way get at the end; the supervisor kills after 8.
_LAST_SECONDS: Final = 4.0
#: Seconds between two sweeps of old attempts, and between two parts of one.
_SWEEP_EVERY: Final = 60.0
_SWEEP_PAUSE: Final = 0.2
#: Bytes of bodies in hand, and of one read.
_BODIES: Final = 32 * 2**20
_READ: Final = 2**20
#: By how much less there is where memory is little.
_SMALLER: Final = 4

_log: Any = structlog.get_logger(__name__)


class DeliveryEngine:
    """Delivers until it is told to stop; used on one event loop."""

    def __init__(self, config: Config, store: Deliveries, pulse: Pulse) -> None:
        self.end = 0
        #: no courier begins anything while what came of earlier attempts can't be stored
        self.is_held = False
        self.shown = DeliveryNumbers()
        self._config = config
        self._store = store
        self._pulse = pulse
        self._thread = ThreadPoolExecutor(1, "deliveries")
        self._couriers: dict[int, Courier] = {}
        self._leaving: list[Courier] = []
        self._unusable: dict[int, Outfit] = {}
        self._outcome: DeliveryOutcome | None = None  # gathered, and not stored yet
        self._settled: list[tuple[Courier, list[int]]] = []
        self._store_at = self._reload_at = self._reload_by = self._sweep_at = 0.0
        self._has_changed = True
        self._busy_until = 0.0
        self._tls: ssl.SSLContext | None = None
        self._smaller = _SMALLER if allowance.is_small() else 1
        self._can_write = True
        self._trouble = ""
        self._complaint = Complaint(
            _log, "deliveries without the database", "deliveries with the database again"
        )

    # --- what couriers ask of it

    async def ask(self, work: Callable[[Deliveries], Any]) -> Any:
        """Run `work`, which only reads, in the database's thread. Raises StoreError."""
        found = await self._in_thread(work)
        if self._can_write:  # on a full disk reads go on
            self._works()
        return found

    def room(self) -> int:
        """Return the bytes of messages that a courier may read now; 0: none."""
        in_hand = sum(courier.bytes for courier in (*self._couriers.values(), *self._leaving))
        return min(_READ // self._smaller, max(0, _BODIES // self._smaller - in_hand))

    # --- its own work

    async def _change(self, work: Callable[[Deliveries], Any]) -> Any:
        """Run `work`, which writes, in the database's thread. Raises StoreError."""
        self._can_write = False
        found = await self._in_thread(work)
        self._can_write = True
        self._works()
        return found

    async def _in_thread(self, work: Callable[[Deliveries], Any]) -> Any:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, self._store)
        except StoreError as error:
            self._trouble = str(error)
            self._complaint.fails(error=self._trouble)
            raise

    def _works(self) -> None:
        self._trouble = ""
        self._complaint.works()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, and store what came of it."""
        beat_at = 0.0
        while not stop.is_set():
            try:
                await self._turn()
            except StoreError:  # it was said
                await _wait(stop, _STORE_AGAIN)
            now = time.monotonic()
            if now >= beat_at:
                beat_at = now + BEAT_SECONDS / 2
                self._pulse.beat()
                self._pulse.status(self._words())
                couriers = self._couriers.items()
                self.shown.look(
                    {number: max(0, self.end - each.cursor) for number, each in couriers},
                    [at for _, each in couriers if (at := each.broken_at) is not None],
                )
            await _wait(stop, _BUSY_LOOK if now < self._busy_until else _IDLE_LOOK)
        self._pulse.stopping()
        await self._stop()

    def _words(self) -> str:
        """Return what it does, for people."""
        count = len(self._couriers)
        words = f"{count} endpoint{'' if count == 1 else 's'}"
        return f"{words}; waiting for the database: {self._trouble}" if self._trouble else words

    async def _turn(self) -> None:
        now = time.monotonic()
        if await self.ask(lambda d: d.is_changed()):
            self._has_changed = True
            end = await self.ask(lambda d: d.end())
            if end != self.end:
                self.end = end
                self._look()
        if now >= (self._reload_at if self._has_changed else self._reload_by):
            self._has_changed = False
            self._reload_at, self._reload_by = now + _RELOAD, now + _RELOAD_ANYWAY
            await self._reload()
        if any(not courier.is_idle for courier in self._couriers.values()):
            self._busy_until = now + _BUSY_SECONDS
        if now >= self._store_at:
            self._store_at = now + _STORE_EVERY
            await self._store_outcome()
        if now >= self._sweep_at:
            age = self._config.deliveries_age
            before = timestamps.timestamp(time.time() - age) if age else timestamps.EPOCH
            kept = self._config.deliveries_kept
            more = await self._change(lambda d: d.sweep(kept, before))
            self._sweep_at = now + (_SWEEP_PAUSE if more else _SWEEP_EVERY)
        for courier in (*self._couriers.values(), *self._leaving):
            courier.check()

    def _look(self) -> None:
        for courier in self._couriers.values():
            courier.look(due=False)

    async def _reload(self) -> None:
        """Give each endpoint its courier; one whose endpoint was changed makes room for another."""
        outfits = {each.row.id: each for each in await self.ask(lambda d: d.outfits())}
        for number, courier in list(self._couriers.items()):
            outfit = outfits.get(number)
            if outfit is None or not is_same(outfit, courier.plan.outfit):
                courier.leave(forget=True)
                self._leaving.append(self._couriers.pop(number))
                asyncio.get_running_loop().call_later(_LAST_SECONDS, courier.abort)
            else:
                if courier.is_crowded:
                    courier.recount(await self.ask(partial(_unfinished, number)))
                courier.look(due=True)
        self._leaving = [courier for courier in self._leaving if not await self._is_gone(courier)]
        replays = await self.ask(lambda d: d.replays())
        away = {courier.plan.outfit.row.id for courier in self._leaving}
        for number, outfit in outfits.items():
            if number in away:
                self._has_changed = True  # look again soon
            elif number not in self._couriers:
                await self._begin(outfit)
        for number, courier in self._couriers.items():
            courier.tell([work for work in replays if work.endpoint == number])

    async def _is_gone(self, courier: Courier) -> bool:
        """Whether a courier that leaves has nothing to store any more."""
        if not courier.is_gone:
            return False
        await self._store_outcome(all_of_it=True)
        return True

    async def _begin(self, outfit: Outfit) -> None:
        number = outfit.row.id
        try:
            planned = plan(outfit)
        except InputError as error:
            before = self._unusable.get(number)
            if before is None or not is_same(outfit, before):
                self._unusable[number] = outfit
                _log.error("endpoint unusable", endpoint=outfit.row.name, error=str(error))
            return
        self._unusable.pop(number, None)
        fresh, begin = await self.ask(partial(_begin, outfit))
        self._couriers[number] = Courier(
            replace(planned, outfit=fresh),
            HttpClient(planned.url, self._config.deliver_allow, self._context),
            self,
            begin,
        )

    def _context(self) -> ssl.SSLContext:
        """Return what TLS is made with: the system's authorities, and nobody else's."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _store_outcome(self, *, all_of_it: bool = False) -> None:
        """Store what couriers gathered. Raises StoreError; it is then stored by a later call."""
        if self._outcome is None:
            outcome, settled = DeliveryOutcome(), []
            for courier in (*self._couriers.values(), *self._leaving):
                ids = courier.collect(outcome, all_of_it=all_of_it)
                if ids is not None:
                    settled.append((courier, ids))
            if not outcome.standings:
                return
            self._outcome, self._settled = outcome, settled
        outcome = self._outcome
        try:
            await self._change(lambda d: d.store(outcome))
        except StoreError:
            self.is_held = True
            raise
        self._outcome, self.is_held = None, False
        self.shown.add(outcome.standings.values())
        for courier, ids in self._settled:
            courier.is_stored(ids)
        self._settled = []

    async def _stop(self) -> None:
        """Let attempts under way end, and store what came of them."""
        couriers = [*self._couriers.values(), *self._leaving]
        for courier in couriers:
            courier.leave()
        await asyncio.gather(*(courier.gone(_LAST_SECONDS) for courier in couriers))
        try:
            while self._outcome is not None:
                await self._store_outcome()
            await self._store_outcome(all_of_it=True)
        except StoreError:
            _log.warning("last deliveries not noted")  # they are made again
        self._thread.shutdown()


def _begin(outfit: Outfit, store: Deliveries) -> tuple[Outfit, CourierBegin]:
    """Read where an endpoint stands.

    What the courier before it stored may be newer than the outfit.
    """
    number = outfit.row.id
    fresh = next((each for each in store.outfits() if each.row.id == number), outfit)
    ahead = store.ahead(number, fresh.row.cursor)
    return fresh, CourierBegin(store.lanes(number), store.unfinished(number), ahead)


def _unfinished(number: int, store: Deliveries) -> int:
    return store.unfinished(number)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
