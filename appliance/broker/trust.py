"""Tells our own envelopes from those that another user of the broker published.

An envelope says more than a plain message may: ids, times, checked signatures, ledger numbers. So
it counts only if our own user published it. Our programs name their user in the AMQP property
`user_id`, which RabbitMQ compares with the user of the connection; nobody else can name ours.

Versions before this one named no user, and their envelopes can still be in the queue. On our own
node there was no other user then. The queue is first in, first out: where the first envelope of a
fresh connection is signed, none of theirs is left, and from then on an unsigned one is not ours. A
mark in the node's folder keeps that.

An outside broker has its own users and rights, and other hosts may still run an earlier version.
There all envelopes count, unless APPLIANCE_BROKER_USERS names the users whose envelopes do.

A queue of another user can send an envelope of ours back to our exchange, as a dead letter under a
topic of that user's choice; RabbitMQ keeps the `user_id`, and adds the header `x-death`. So in the
queue of messages an envelope with that header does not count.
"""

from typing import TYPE_CHECKING, Any

import structlog

from appliance.broker.base import USER
from appliance.broker.broker_addresses import parameters
from appliance.broker.node import synced
from appliance.config import Config

if TYPE_CHECKING:
    from pathlib import Path

_log: Any = structlog.get_logger(__name__)


class Trust:
    """What one consumer knows of whose envelopes come; used on its event loop."""

    def __init__(self, config: Config) -> None:
        self._mark: Path | None = None
        self._users: frozenset[str] = frozenset()
        if not config.broker_urls:
            self._mark, self._users = config.broker_home / synced.SIGNED, frozenset({USER})
        elif config.broker_users:
            own = (one.credentials.username for one in parameters(config))
            self._users = frozenset((*config.broker_users, *own))
        self._is_first = True
        self._is_strict = self._mark is None
        self._early_dead = 0

    @property
    def is_unsettled(self) -> bool:
        """Whether an envelope of an earlier version may still be in our own node's queues."""
        return self._mark is not None and not self._mark.exists()

    def begin(self, dead_waiting: int = 0) -> None:
        """Begin anew with a fresh connection, which gets the queue from its head.

        `dead_waiting` is how many dead letters of the broker's wait there: unless the mark is there
        already, they can be from before it.
        """
        self._is_first = True
        self._is_strict = not self.is_unsettled
        self._early_dead = 0 if self._is_strict else dead_waiting

    def is_ours(self, properties: Any) -> bool:
        """Whether an envelope in the queue of messages is ours."""
        if not self._users:
            return True
        is_first, self._is_first = self._is_first, False
        if properties.user_id in self._users and "x-death" not in (properties.headers or {}):
            if is_first and not self._is_strict:
                self._set_mark()
            return True
        return self._is_early(properties)

    def is_ours_among_the_dead(self, properties: Any) -> bool:
        """Whether an envelope that the broker gave up on is ours."""
        if not self._users or properties.user_id in self._users:
            return True
        if self._early_dead:
            self._early_dead -= 1
            return not properties.user_id
        return self._is_early(properties)

    def _is_early(self, properties: Any) -> bool:
        """Whether it can be of a version that named no user."""
        if self._is_strict or properties.user_id:
            return False
        # Another worker may have set the mark since.
        self._is_strict = self._mark is not None and self._mark.exists()
        return not self._is_strict

    def _set_mark(self) -> None:
        self._is_strict = True
        if self._mark is None:
            return
        try:
            synced.mark(self._mark.parent, self._mark.name)
        except OSError as error:
            # The next connection looks at the queue's head again.
            _log.warning("queue mark not written", path=str(self._mark), error=str(error))
