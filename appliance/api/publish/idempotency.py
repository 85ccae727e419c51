"""The same request sent again with the same idempotency key is kept once.

The ids of its messages follow from the key, so the store never keeps two. Here is only the memory
that answers the second attempt like the first, and that refuses another body with the same key.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.api.bodies.plan import SINGLE
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.errors import KeyReusedError

#: Attempts that are remembered: enough to bridge the time until their messages are stored, from
#: then on the store knows them.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Attempt:
    digest: bytes
    outcome: asyncio.Task[Receipt]


class Attempts:
    """The latest requests that had a key; used on the event loop."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()

    async def once(
        self,
        prefix: str,
        options: PublishOptions,
        bodies: Sequence[bytes],
        first: Callable[[], Awaitable[Receipt]],
    ) -> Receipt:
        """Return the receipt of the first attempt whose ids begin with `prefix`.

        `first` is called where none is remembered. A failed attempt is forgotten. Raises
        KeyReusedError where the remembered one had another body, and what `first` raises.
        """
        digest = _digest(options, bodies)
        attempt = self._attempts.get(prefix)
        if attempt is None:
            attempt = _Attempt(digest, asyncio.ensure_future(first()))
            self._attempts[prefix] = attempt
            attempt.outcome.add_done_callback(lambda task: self._forget_failed(prefix, task))
            if len(self._attempts) > _REMEMBERED:
                self._attempts.popitem(last=False)
            return await asyncio.shield(attempt.outcome)
        if attempt.digest != digest and not options.first_counts:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        return (await asyncio.shield(attempt.outcome))._replace(is_repeat=True)

    def _forget_failed(self, prefix: str, task: asyncio.Task[Receipt]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._attempts.pop(prefix, None)


def _digest(options: PublishOptions, bodies: Sequence[bytes]) -> bytes:
    """Return a digest of the messages: how they were packed, split or written down is no matter."""
    lengths = ",".join(map(str, map(len, bodies)))
    digest = hashlib.sha256(f"{options.form in SINGLE} {lengths} ".encode())
    for body in bodies if len(bodies) == 1 else [b"".join(bodies)]:
        digest.update(body)
    return digest.digest()
