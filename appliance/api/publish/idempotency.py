"""The same request sent again with the same idempotency key is kept once.

The ids of its messages follow from the key, so the store never keeps two. Here is only the memory
that answers the second attempt like the first, and that refuses another body with the same key.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from appliance.api.bodies.plan import SINGLE
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.errors import KeyReusedError

#: Attempts that are remembered: enough to bridge the time until their messages are stored, from
#: then on the store knows them.
_REMEMBERED: Final = 10_000


class KeyedAttempt:
    """The first request with a key: whoever makes it says how it ended, and others wait for that.

    `prefix` is that of the ids of its messages, `digest` that of their bodies.
    """

    __slots__ = ("_attempts", "_receipt", "_waiting", "digest", "prefix")

    def __init__(self, attempts: "Attempts", prefix: str, digest: bytes) -> None:
        self._attempts = attempts
        self._receipt: Receipt | None = None
        self._waiting: list[asyncio.Future[Receipt]] | None = None
        self.prefix = prefix
        self.digest = digest

    def succeed(self, receipt: Receipt) -> None:
        """Say that its messages are kept."""
        self._receipt = receipt
        for future in self._waiting or ():
            if not future.done():
                future.set_result(receipt)
        self._waiting = None

    def fail(self, error: BaseException) -> None:
        """Say that it failed; it is forgotten."""
        self._attempts.forget(self)
        for future in self._waiting or ():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif not future.done():
                future.set_exception(error)
        self._waiting = None

    async def outcome(self) -> Receipt:
        """Return its receipt, once there is one. Raises what it failed of."""
        if self._receipt is not None:
            return self._receipt
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting = [*(self._waiting or ()), future]
        return await future


class Attempts:
    """The latest requests that had a key; used on the event loop."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, KeyedAttempt] = OrderedDict()

    def begin(self, prefix: str, options: PublishOptions, body: bytes) -> KeyedAttempt | None:
        """Remember a first attempt; None where there was one before."""
        if prefix in self._attempts:
            return None
        return self._remember(prefix, _digest(options, [body]))

    def forget(self, attempt: KeyedAttempt) -> None:
        """Have the next request with its key be a first one."""
        if self._attempts.get(attempt.prefix) is attempt:
            del self._attempts[attempt.prefix]

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
        if attempt is not None:
            if attempt.digest != digest and not options.first_counts:
                raise KeyReusedError("this Idempotency-Key came before with another body")
            return (await attempt.outcome())._replace(is_repeat=True)
        attempt = self._remember(prefix, digest)
        try:
            receipt = await first()
        except BaseException as error:
            attempt.fail(error)
            raise
        attempt.succeed(receipt)
        return receipt

    def _remember(self, prefix: str, digest: bytes) -> KeyedAttempt:
        attempt = self._attempts[prefix] = KeyedAttempt(self, prefix, digest)
        if len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)
        return attempt


def _digest(options: PublishOptions, bodies: Sequence[bytes]) -> bytes:
    """Return a digest of the messages: how they were packed, split or written down is no matter."""
    lengths = ",".join(map(str, map(len, bodies)))
    digest = hashlib.sha256(f"{options.form in SINGLE} {lengths} ".encode())
    for body in bodies if len(bodies) == 1 else [b"".join(bodies)]:
        digest.update(body)
    return digest.digest()
