"""Decodes bodies, the large ones in threads, so that the event loop goes on meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from appliance.api.bodies.decoding import Decoded, decode
from appliance.api.bodies.plan import BodyPlan
from appliance.config import Config
from appliance.errors import RefusedError, TooLargeError

#: Threads. Each can hold the largest request, unpacked, a few times.
_THREADS: Final = 2
#: Bytes of a body that is decoded at once, as it comes and unpacked. The slowest, a form of 150
#: tiny fields, takes 6 ms; log lines of 256 KiB take 0.3 ms.
_AT_ONCE_BYTES: Final = 8 * 1024
_AT_ONCE_UNPACKED: Final = 256 * 1024
#: Bytes of bodies that can wait for a thread.
_WAITING_BYTES: Final = 64 * 2**20

_T = TypeVar("_T")


class Unpacker:
    """Used on the event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(_THREADS, "unpacker")
        self._waiting = 0  # bytes

    async def decode(self, plan: BodyPlan, raw: bytes) -> Decoded:
        """Return the messages of a body.

        Raises what `decoding.decode` raises, and RefusedError where too much waits.
        """
        if len(raw) <= _AT_ONCE_BYTES:
            if not plan.codings:
                return decode(plan, raw, self._config)
            try:
                return decode(plan, raw, self._config, at_once=_AT_ONCE_UNPACKED)
            except TooLargeError:
                if plan.most_bytes <= _AT_ONCE_UNPACKED:
                    raise
        if self._waiting and self._waiting + len(raw) > _WAITING_BYTES:
            raise RefusedError("too much waits to be unpacked; nothing was kept")
        self._waiting += len(raw)
        try:
            return await self.run(decode, plan, raw, self._config)
        finally:
            self._waiting -= len(raw)

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Return what `work` returns, in one of the threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)
