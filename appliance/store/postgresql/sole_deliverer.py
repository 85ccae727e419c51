"""Lets one process at a time deliver, on however many hosts, by a lock of PostgreSQL's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from appliance.store.endpoint_rows import Outfit
from appliance.store.postgresql.connections import PostgresConnection
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.presence import Presence
from appliance.store.postgresql.reads import PostgresReads
from appliance.store.postgresql.sql_database import PostgresDatabase, transaction
from appliance.store.sql.deliveries import StoredDeliveries

#: The name of the lock that the process has which delivers.
_DELIVER: Final = "deliver"


class _HeldDatabase(PostgresDatabase):
    """Is written on the session that holds the lock: who has lost it writes nothing more."""

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(PostgresReads(hosts))
        self.presence: Final = Presence(hosts)

    def apart(self) -> PostgresDatabase:
        """Return itself: its connections are its own."""
        return self

    @contextmanager
    def writing(self, *, synced: bool = True, alone: str = "") -> Iterator[PostgresConnection]:
        """Lend the session within a transaction. Raises StoreError where another delivers."""
        with (
            self.presence.holding(_DELIVER) as session,
            transaction(session, synced=synced, alone=alone),
        ):
            yield session


class PostgresDeliveries(StoredDeliveries):
    """Shows endpoints to one process of all hosts; the others look twice a second who it is.

    One that has lost its session, and its part to another, can have made deliveries that nobody
    noted: they are made again.
    """

    def __init__(self, hosts: Hosts) -> None:
        database = _HeldDatabase(hosts)
        super().__init__(database)
        self._presence = database.presence
        self._is_refused = False

    def is_changed(self) -> bool:
        """Whether others committed anything, or another process delivers: it can end unseen."""
        return super().is_changed() or self._is_refused

    def has_active(self) -> bool:
        """Whether there is an endpoint that is not paused, and this process is to deliver."""
        return super().has_active() and self._claim()

    def outfits(self) -> list[Outfit]:
        """Return the endpoints that are not paused; none where another process delivers."""
        return super().outfits() if self._claim() else []

    def _claim(self) -> bool:
        self._is_refused = not self._presence.claim(_DELIVER)
        return not self._is_refused
