"""Checks of a PostgreSQL database for `appliance doctor`."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from appliance.errors import SchemaError, StoreError
from appliance.store.base import HealthCheck
from appliance.store.postgresql import closed, migrations, objects
from appliance.store.postgresql.connections import (
    PostgresConnection,
    connect,
    location,
    store_error,
)

#: The first version whose SQL is that of the store.
_LEAST: Final = 15
#: Bytes of log that a copy may lack before it is reported.
_FAR_BEHIND: Final = 64 * 2**20

_SERVER: Final = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
    current_setting('server_encoding'), current_setting('fsync') = 'on',
    current_setting('full_page_writes') = 'on'
"""
_COPIES: Final = """
    SELECT coalesce(nullif(application_name, ''), client_addr::text, 'local'), sync_state,
    pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)
    FROM pg_stat_replication ORDER BY application_name
"""
_SYNCHRONOUS: Final = "SELECT current_setting('synchronous_standby_names')"


class PostgresHealth:
    """Checks the database at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def engine(self) -> HealthCheck:
        """Check the server's version, and that what it says is stored is on its disk.

        A server that can't be reached is an error of the check `server`, not of this one: the
        appliance starts without it, and takes messages meanwhile.
        """
        try:
            with self._open() as connection:
                row = connection.execute(_SERVER).fetchone()
        except StoreError as error:
            return HealthCheck(
                "PostgreSQL",
                "warning",
                str(error),
                "start the server, or correct APPLIANCE_DATABASE_URL; messages wait in the queue",
            )
        version, number, encoding, synced, whole_pages = row
        if number < _LEAST * 10_000:
            return HealthCheck(
                "PostgreSQL",
                "error",
                f"{version} is older than {_LEAST}",
                f"upgrade the server to PostgreSQL {_LEAST} or later",
            )
        if encoding != "UTF8":
            return HealthCheck(
                "PostgreSQL",
                "error",
                f"the database's encoding is {encoding}",
                "make the database anew with ENCODING 'UTF8' TEMPLATE template0",
            )
        if not synced or not whole_pages:
            return HealthCheck(
                "PostgreSQL",
                "warning",
                f"{version}, with {'full_page_writes' if synced else 'fsync'} off: a power cut can "
                "lose what is stored, or damage the database",
                "set fsync and full_page_writes to on in the server's postgresql.conf",
            )
        return HealthCheck("PostgreSQL", "ok", version)

    def database(self) -> Iterator[HealthCheck]:
        """Check that it takes writes, its schema, its objects and its copies."""
        try:
            with self._open() as connection:
                yield HealthCheck("database", "ok", f"{location(self._url)} takes writes")
                if mark := closed.mark_of(connection):
                    yield HealthCheck(
                        "move",
                        "error",
                        mark.words(location(self._url)),
                        "start on the other database",
                    )
                schema = self._schema(connection)
                yield schema
                if schema.level == "ok" and migrations.versions(connection)[0]:
                    yield self._objects(connection)
                yield from self._copies(connection)
        except StoreError as error:
            yield HealthCheck(
                "database",
                "error",
                str(error),
                "start the server, promote a standby (pg_ctl promote) where the primary is gone, "
                "or correct APPLIANCE_DATABASE_URL; messages wait in the queue",
            )

    def newest(self) -> float | None:
        """Return when the message stored last was received, as Unix time; None if unknown."""
        with contextlib.suppress(StoreError, ValueError), self._open() as connection:
            query = "SELECT received_at FROM messages ORDER BY seq DESC LIMIT 1"
            row = connection.execute(query).fetchone()
            return datetime.fromisoformat(row[0]).timestamp() if row else None
        return None

    def files(self) -> list[Path]:
        """Return none: the server has them."""
        return []

    @contextlib.contextmanager
    def _open(self) -> Iterator[PostgresConnection]:
        try:
            connection = connect(self._url, readonly=True)
            try:
                yield connection
            finally:
                connection.close()
        except psycopg.Error as error:
            raise store_error(error, self._url) from error

    def _schema(self, connection: PostgresConnection) -> HealthCheck:
        if not migrations.versions(connection)[0]:
            return HealthCheck("schema", "ok", "the database is empty; the start makes its tables")
        try:
            migrations.check(connection, self._url)
        except SchemaError as error:
            return HealthCheck("schema", "error", str(error), "run appliance migrate")
        return HealthCheck("schema", "ok", f"version {len(migrations.changes())}")

    def _objects(self, connection: PostgresConnection) -> HealthCheck:
        if gone := objects.lacking(connection):
            return HealthCheck(
                "tables",
                "error",
                "; ".join(gone),
                "undo what was changed of the appliance's own tables, or restore a backup",
            )
        return HealthCheck("tables", "ok", "as storing needs them")

    def _copies(self, connection: PostgresConnection) -> Iterator[HealthCheck]:
        rows = connection.execute(_COPIES).fetchall()
        wanted = connection.execute(_SYNCHRONOUS).fetchone()[0]
        waiting = [name for name, state, _ in rows if state in ("sync", "quorum")]
        if waiting:
            yield HealthCheck("copies", "ok", f"stored also at once by: {', '.join(waiting)}")
        elif any(state is None for _, state, _ in rows):
            yield HealthCheck(
                "copies",
                "warning",
                f"this user may not see whether they are synchronous: {len(rows)}",
                "GRANT pg_read_all_stats to the user of APPLIANCE_DATABASE_URL",
            )
        elif wanted:
            yield HealthCheck(
                "copies",
                "error",
                f"the server waits for the copies {wanted}, and none is connected: nothing is "
                "stored until one is",
                "start a standby with that application_name; messages wait in the queue",
            )
        elif rows or "," in location(self._url):
            yield HealthCheck(
                "copies",
                "warning",
                "no copy is synchronous: what was stored in the last moments is lost with the "
                "primary",
                "set synchronous_standby_names in the primary's postgresql.conf",
            )
        else:
            yield HealthCheck("copies", "ok", "none")
        for name, _, behind in rows:
            if behind is not None and behind > _FAR_BEHIND:
                yield HealthCheck(
                    "copies",
                    "warning",
                    f"{name} is {behind / 2**20:,.0f} MiB behind",
                    "see its log, and the network between it and the primary",
                )
