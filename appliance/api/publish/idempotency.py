"""The same request sent again with the same idempotency key is kept once.

The ids of its messages follow from the key, so the store never keeps two. Here is only the memory
that answers the second attempt like the first, and that refuses another body with the same key.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

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
        body: bytes,
        first: Callable[[], Awaitable[Receipt]],
    ) -> Receipt:
        """Return the receipt of the first attempt whose ids begin with `prefix`.

        `first` is called where none is remembered. A failed attempt is forgotten. Raises
        KeyReusedError where the remembered one had another body, and what `first` raises.
        """
        digest = hashlib.sha256(options.form.name.encode() + b"\0" + body).digest()
        attempt = self._attempts.get(prefix)
        if attempt is None:
            attempt = _Attempt(digest, asyncio.ensure_future(first()))
            self._attempts[prefix] = attempt
            attempt.outcome.add_done_callback(lambda task: self._forget_failed(prefix, task))
            if len(self._attempts) > _REMEMBERED:
                self._attempts.popitem(last=False)
        elif attempt.digest != digest:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        return await asyncio.shield(attempt.outcome)

    def _forget_failed(self, prefix: str, task: asyncio.Task[Receipt]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._attempts.pop(prefix, None)
