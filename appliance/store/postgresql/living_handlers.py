"""Messages that wait for handlers on several hosts: which process lives is seen in PostgreSQL."""

from collections.abc import Collection
from typing import Any

from appliance.model.handler_rules import HandlerRules
from appliance.store.postgresql.presence import Presence
from appliance.store.postgresql.sql_database import PostgresDatabase
from appliance.store.sql.handling import StoredHandling


class PostgresHandling(StoredHandling):
    """A process is given messages while its session shows that it lives.

    A file's lock says it on its own host only. A process whose session was lost can lose what it
    has to another: it is handled twice then, and the outcome of one is stored.
    """

    def __init__(self, database: PostgresDatabase, rules: HandlerRules) -> None:
        super().__init__(database, rules)
        self._presence = Presence(database.hosts)

    def close(self) -> None:
        """Close what all threads keep open, and say that the process lives no more."""
        super().close()
        self._presence.close()

    def _show(self, holder: str) -> None:
        self._presence.show(holder)

    def _ended(self, connection: Any, names: Collection[str]) -> set[str]:
        return self._presence.absent(connection, names)
