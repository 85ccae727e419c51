"""JSON Schemas by topic: a change and its entry in the audit trail are one transaction."""

from typing import Final

from appliance.errors import LimitError
from appliance.store.access_rows import Deed, SchemaRow
from appliance.store.sql import audit_table
from appliance.store.sql.database import SqlConnection, SqlDatabase

#: Schemas that there can be: all of them are held in memory.
MAX_SCHEMAS: Final = 1000

_COLUMNS: Final = "topic, mode, schema, changed_at"


class StoredSchemas:
    """Reads, and writes in short transactions, one at a time: so their number is bounded."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def all(self) -> list[SchemaRow]:
        """Return all schemas by topic."""
        with self._database.reading() as connection:
            return schema_rows(connection)

    def find(self, topic: str) -> SchemaRow | None:
        """Return the topic's schema, or None."""
        with self._database.reading() as connection:
            query = f"SELECT {_COLUMNS} FROM schemas WHERE topic = ?"  # noqa: S608  # ours
            row = connection.execute(query, (topic,)).fetchone()
        return None if row is None else SchemaRow._make(row)

    def put(self, row: SchemaRow, deed: Deed) -> bool:
        """Give a topic this schema; return whether it had none before. Raises LimitError."""
        with self._database.writing(alone="access") as connection:
            known = connection.execute(
                "SELECT count(*) FROM schemas WHERE topic = ?", (row.topic,)
            ).fetchone()[0]
            count = connection.execute("SELECT count(*) FROM schemas").fetchone()[0]
            if not known and count >= MAX_SCHEMAS:
                raise LimitError(f"{MAX_SCHEMAS} topics have a schema; remove one of them first")
            connection.execute(
                f"INSERT INTO schemas ({_COLUMNS}) VALUES (?, ?, ?, ?) "  # noqa: S608  # ours
                "ON CONFLICT (topic) DO UPDATE SET mode = excluded.mode, "
                "schema = excluded.schema, changed_at = excluded.changed_at",
                row,
            )
            audit_table.write(connection, deed)
        return not known

    def remove(self, topic: str, deed: Deed) -> bool:
        """Remove a topic's schema; return whether there was one."""
        with self._database.writing(alone="access") as connection:
            gone = connection.execute("DELETE FROM schemas WHERE topic = ?", (topic,)).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)


def schema_rows(connection: SqlConnection) -> list[SchemaRow]:
    """Return all schemas by topic."""
    query = f"SELECT {_COLUMNS} FROM schemas ORDER BY topic LIMIT {MAX_SCHEMAS}"  # noqa: S608
    return [SchemaRow._make(row) for row in connection.execute(query)]
