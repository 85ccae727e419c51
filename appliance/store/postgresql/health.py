"""Checks of a PostgreSQL database for `appliance doctor`."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from appliance.errors import OldPrimaryError, SchemaError, StoreError
from appliance.store.base import HealthCheck
from appliance.store.postgresql import closed, index_check, migrations, objects, standbys
from appliance.store.postgresql.connections import PostgresConnection, location, store_error
from appliance.store.postgresql.hosts import Hosts

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
_SEE: Final = "let the appliance's user see them: GRANT pg_read_all_stats TO its name"


class PostgresHealth:
    """Checks the database of these hosts; `copies` synchronous standbys are wanted."""

    def __init__(self, hosts: Hosts, copies: int = 0) -> None:
        self._hosts = hosts
        self._wanted = copies

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
        """Check that it takes writes, its schema, its objects, its copies and the index."""
        try:
            with self._open() as connection:
                yield from self._primaries(connection)
                if mark := closed.mark_of(connection):
                    yield HealthCheck(
                        "move",
                        "error",
                        mark.words(location(self._hosts.url)),
                        "start on the other database",
                    )
                schema = self._schema(connection)
                yield schema
                if schema.level == "ok" and migrations.versions(connection)[0]:
                    yield self._objects(connection)
                    yield self._search_index(connection)
                yield from self._copies(connection)
        except OldPrimaryError as error:
            yield HealthCheck(
                "database",
                "error",
                str(error),
                "start the new primary; messages wait in the queue. If an older copy was put back "
                f"on purpose, remove {self._hosts.newest.path}",
            )
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
            connection = self._hosts.connect(readonly=True)
            try:
                yield connection
            finally:
                connection.close()
        except psycopg.Error as error:
            raise store_error(error, self._hosts.url) from error

    def _schema(self, connection: PostgresConnection) -> HealthCheck:
        if not migrations.versions(connection)[0]:
            return HealthCheck("schema", "ok", "the database is empty; the start makes its tables")
        try:
            migrations.check(connection, self._hosts.url)
        except SchemaError as error:
            return HealthCheck("schema", "error", str(error), "run appliance migrate")
        text = f"version {len(migrations.changes())}"
        if later := migrations.later(connection):
            text += f", and {', '.join(sorted(later))} of a newer program's, which do no harm"
        return HealthCheck("schema", "ok", text)

    def _objects(self, connection: PostgresConnection) -> HealthCheck:
        if gone := objects.lacking(connection):
            return HealthCheck(
                "tables",
                "error",
                "; ".join(gone),
                "undo what was changed of the appliance's own tables, or restore a backup",
            )
        return HealthCheck("tables", "ok", "as storing needs them")

    def _primaries(self, connection: PostgresConnection) -> Iterator[HealthCheck]:
        text = f"{location(self._hosts.url)} takes writes"
        if connection.timeline is None:
            yield HealthCheck(
                "database",
                "warning",
                f"{text}; an old primary that came back would not be told from it",
                "let the appliance's user call pg_control_system and pg_walfile_name",
            )
        else:
            yield HealthCheck("database", "ok", text)
        for name, timeline in self._hosts.found:
            if timeline is not None and self._hosts.newest.is_old(timeline):
                yield HealthCheck(
                    "database",
                    "warning",
                    f"{name} takes writes too, and is an old primary: its timeline is "
                    f"{timeline.number}",
                    "stop it, and make it a standby of the new primary (pg_rewind); the appliance "
                    "does not use it",
                )

    def _search_index(self, connection: PostgresConnection) -> HealthCheck:
        return HealthCheck("search index", "ok", index_check.described(connection))

    def _copies(self, connection: PostgresConnection) -> Iterator[HealthCheck]:
        found = standbys.look(connection)
        rows = connection.execute(_COPIES).fetchall() if found.connected is not None else []
        if found.awaited < self._wanted:
            yield HealthCheck(
                "copies",
                "error",
                f"{found.lack(self._wanted)}: nothing is stored",
                "set synchronous_standby_names in the primary's postgresql.conf, or "
                "APPLIANCE_DATABASE_SYNCHRONOUS_COPIES; messages wait in the queue",
            )
        elif found.awaited and found.connected is None:
            yield HealthCheck(
                "copies",
                "ok",
                f"commits wait for {found.awaited} synchronous copies; which are connected is not "
                f"shown to this user ({_SEE})",
            )
        elif found.awaited and found.copies < found.awaited:
            yield HealthCheck(
                "copies",
                "error",
                f"{found.lack(found.awaited)}: nothing is stored",
                "start a standby with an application_name of synchronous_standby_names; messages "
                "wait in the queue",
            )
        elif found.awaited:
            names = ", ".join(name for name, state, _ in rows if state in ("sync", "quorum"))
            yield HealthCheck("copies", "ok", f"stored also at once by: {names}")
        elif rows or len(self._hosts.singles) > 1:
            yield HealthCheck(
                "copies",
                "warning",
                "no copy is synchronous: what was stored in the last moments is lost with the "
                "primary",
                "set synchronous_standby_names in the primary's postgresql.conf, and "
                "APPLIANCE_DATABASE_SYNCHRONOUS_COPIES",
            )
        elif found.connected is None:
            yield HealthCheck(
                "copies",
                "ok",
                f"commits wait for none; which are connected is not shown to this user ({_SEE})",
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
