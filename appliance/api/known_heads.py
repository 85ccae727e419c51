"""Heads that were decided on before.

A client that keeps its connection sends the same head with every message, byte for byte, so it
need not be parsed and decided on again: that is some 18 of the 22 us of CPU that a message costs
between the socket and the publisher. A decision holds for one generation of the policy (who may do
what) only: when a token or a right changes, everything here is forgotten at once.
"""

from collections import OrderedDict
from typing import Final

from appliance.api.http.head import Head
from appliance.api.http.request import Admission

#: Heads that are kept: a few hundred clients, or topics, or lengths of bodies.
_MAX_HEADS: Final = 1024
#: Bytes of a head that is worth keeping.
_MAX_BYTES: Final = 2048


class KnownHeads:
    """Heads by their bytes, with what was decided on them under one generation of the policy."""

    def __init__(self) -> None:
        self._generation = 0
        # Ordered: a plain one finds its first key by passing over all that were deleted before it.
        self._heads: OrderedDict[bytes, tuple[Head, Admission]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heads)

    def recall(self, data: bytes, generation: int) -> tuple[Head, Admission] | None:
        """Return what was decided on the head `data` under this generation; None if nothing was."""
        if generation != self._generation:
            self._heads.clear()
            self._generation = generation
        return self._heads.get(data)

    def learn(self, data: bytes, head: Head, admission: Admission, generation: int) -> None:
        """Remember a decision. The oldest one makes room for it."""
        if len(data) > _MAX_BYTES or generation != self._generation:
            return
        if len(self._heads) >= _MAX_HEADS:
            self._heads.popitem(last=False)
        self._heads[data] = head, admission
