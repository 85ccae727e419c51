"""An entry of a queue's log, in a write-ahead log or in a segment."""

from typing import NamedTuple


class LogEntry(NamedTuple):
    """What Ra keeps under a number, which has no gap within a queue; `data` is an Erlang term."""

    number: int
    term: int
    data: bytes
