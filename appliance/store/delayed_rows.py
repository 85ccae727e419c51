"""Rows of delayed messages: accepted, on disk, and not among the messages yet."""

from typing import NamedTuple


class DelayedWaiting(NamedTuple):
    """How many messages wait for their time, and when the first one is due; None: none waits."""

    messages: int
    next_due_at: str | None


class DelayedRow(NamedTuple):
    """A message that becomes a row of `messages` at `due_at`; `bytes` are those of its body."""

    seq: int
    id: str
    topic: str
    content_type: str | None
    meta: str | None
    accepted_at: str
    due_at: str
    bytes: int
