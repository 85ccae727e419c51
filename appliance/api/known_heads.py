"""Heads that were decided on before.

A client that keeps its connection sends the same head with every message, byte for byte, so it
need not be parsed and decided on again: that is some 18 of the 22 us of CPU that a message costs
between the socket and the publisher. Where heads differ, they mostly differ in a few values on
which no decision depends: the length of the body, an idempotency key, a trace id. So the shape of a
head, which is the head without these values, is remembered too, and a head of a known shape takes
its own values.

A shape stands for a decision only if the head that was parsed had each of these headers once, with
a value that was cut out. A head of the same shape with as many values has the same lines, byte for
byte, but for these values; and they are plain: digits, or visible ASCII. So it would be parsed and
decided on in the same way.

A decision holds for one generation of the policy (who may do what) only: when a token or a right
changes, everything here is forgotten at once.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from appliance.api.http.head import Head
from appliance.api.http.request import Admission

#: Heads that are kept: a few hundred clients, or topics, or lengths of bodies. As many shapes.
_MAX_HEADS: Final = 1024
#: Bytes of a head that is worth keeping.
_MAX_BYTES: Final = 2048
#: Where a head has only this value of its own, it may well come again.
LENGTH_ALONE: Final = frozenset({b"content-length"})
#: Headers with another value in each request, on which no decision depends: keys, and the traces
#: that clients, proxies and clouds add.
_KEYS_AND_TRACES: Final = (
    b"b3", b"cf-ray", b"idempotency-key", b"sentry-trace", b"traceparent", b"tracestate",
    b"x-amzn-trace-id", b"x-b3-spanid", b"x-b3-traceid", b"x-cloud-trace-context",
    b"x-correlation-id", b"x-datadog-parent-id", b"x-datadog-trace-id", b"x-request-id",
)  # fmt: skip
_VARYING: Final = LENGTH_ALONE.union(_KEYS_AND_TRACES)
#: A line with such a value. A key that begins with a quotation mark is read in another way.
_VARIES: Final = re.compile(
    rb"\r\n(?:(content-length): ([0-9]{1,12})|(%b): ([!#-~][!-~]{0,254}))(?=\r\n)"
    % b"|".join(_KEYS_AND_TRACES),
    re.IGNORECASE,
)

_Key = TypeVar("_Key")
#: Returns the admission of the same head with other values of headers that vary.
Vary = Callable[[Admission, Mapping[bytes, bytes]], Admission]


class KnownHeads:
    """Heads by their bytes, with what was decided on them under one generation of the policy.

    `vary` returns the admission of a head of a known shape.
    """

    def __init__(self, vary: Vary) -> None:
        self._vary = vary
        self._generation = 0
        # Ordered: a plain one finds its first key by passing over all that were deleted before it.
        self._heads: OrderedDict[bytes, tuple[Head, Admission]] = OrderedDict()
        self._shapes: OrderedDict[tuple[bytes, int], tuple[Head, Admission]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heads)

    def recall(self, data: bytes, generation: int) -> tuple[Head, Admission] | None:
        """Return what was decided on the head `data` under this generation; None if nothing was."""
        if generation != self._generation:
            self._heads.clear()
            self._shapes.clear()
            self._generation = generation
        return self._heads.get(data) or (self._recall_shape(data) if self._shapes else None)

    def learn(self, data: bytes, head: Head, admission: Admission, generation: int) -> None:
        """Remember a decision. The oldest one makes room for it."""
        if len(data) > _MAX_BYTES or generation != self._generation:
            return
        shape, values = _cut(data)
        names = [name for name, _ in head.headers if name in _VARYING]
        if values and sorted(names) == sorted(values):
            _keep(self._shapes, (shape, len(values)), (head, admission))
        if LENGTH_ALONE.issuperset(names):
            _keep(self._heads, data, (head, admission))

    def _recall_shape(self, data: bytes) -> tuple[Head, Admission] | None:
        if len(data) > _MAX_BYTES:
            return None
        shape, values = _cut(data)
        known = self._shapes.get((shape, len(values)))
        if known is None:
            return None
        head, admission = known[0].with_values(values), self._vary(known[1], values)
        if values.keys() == LENGTH_ALONE:
            _keep(self._heads, data, (head, admission))
        return head, admission


def _cut(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return a head without the values that vary, and these by their names in lower case."""
    pieces, values, place = [], {}, 0
    for match in _VARIES.finditer(data):
        group = match.lastindex or 0
        pieces.append(data[place : match.start(group)])
        values[match[group - 1].lower()] = match[group]
        place = match.end(group)
    pieces.append(data[place:])
    return b"".join(pieces), values


def _keep(
    known: OrderedDict[_Key, tuple[Head, Admission]], key: _Key, decision: tuple[Head, Admission]
) -> None:
    if len(known) >= _MAX_HEADS:
        known.popitem(last=False)
    known[key] = decision
