"""PostgreSQL databases with this program's schema, lent to one test after another.

To make a database, migrate it and remove it takes a third of a second of a processor; to empty one
a few milliseconds. One whose schema or settings a test has changed is removed: its catalog tells.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from postgres import PostgresServer

#: Each time it is emptied a database's catalog grows a little.
_MOST_USES = 40

#: What statements that change a schema change rows of, and the column of the object they belong to.
_CATALOGS: Mapping[str, str] = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_class": "oid",
    "pg_constraint": "oid",
    "pg_description": "objoid",
    "pg_event_trigger": "oid",
    "pg_extension": "oid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_largeobject_metadata": "oid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_publication": "oid",
    "pg_rewrite": "oid",
    "pg_sequence": "seqrelid",
    "pg_statistic_ext": "oid",
    "pg_trigger": "oid",
    "pg_ts_config": "oid",
    "pg_ts_dict": "oid",
    "pg_type": "oid",
}
#: Of each the number of rows that are not PostgreSQL's own, and which transactions made them; then
#: what one database has of all that the server has.
_STATE = (
    " UNION ALL ".join(
        f"SELECT '{catalog}', count(*), sum({column}::bigint + xmin::text::bigint) "
        f"FROM {catalog} WHERE {column} >= 16384"
        for catalog, column in _CATALOGS.items()
    )
    + """
    UNION ALL SELECT 'namespaces', count(*), sum(oid::bigint + xmin::text::bigint)
        FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT 'the database', count(*), sum(xmin::text::bigint)
        FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'settings', count(*), 0
        FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
        WHERE datname = current_database()
    UNION ALL SELECT 'prepared transactions', count(*), 0
        FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL SELECT 'slots', count(*), 0
        FROM pg_replication_slots WHERE database = current_database()
    """
)
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend'
"""
_FILLED = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
      AND pg_relation_size(oid) > 0
"""
_SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences"


class LentDatabases:
    """Databases of one server, each with the schema and the rows that its changes make."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._idle: list[str] = []
        self._states: dict[str, list[Any]] = {}  # URL -> its catalog when it was lent
        self._uses: dict[str, int] = {}
        self._rows: dict[str, bytes] = {}  # table -> what is in it from the beginning
        self._sequences: list[Any] = []

    def lend(self) -> str:
        """Return the URL of a database that is nobody else's until it is given back."""
        if self._idle:
            return self._idle.pop()
        url = self._server.new_database(migrated=True)
        with psycopg.connect(url, autocommit=True) as link:
            if not self._rows:
                self._look(link)
            self._states[url] = link.execute(_STATE.encode()).fetchall()
        self._uses[url] = 0
        return url

    def give_back(self, url: str) -> None:
        """Empty a database, or remove it; whoever is connected to it is cut off."""
        self._uses[url] += 1
        if self._uses[url] < _MOST_USES and self._empty(url):
            self._idle.append(url)
        else:
            self._server.drop_database(url)

    def _look(self, link: psycopg.Connection) -> None:
        """Note the rows that a migrated database has."""
        for (table,) in link.execute(_FILLED).fetchall():
            with link.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
                self._rows[table] = b"".join(bytes(part) for part in copy)
        self._sequences = sorted(link.execute(_SEQUENCES).fetchall())

    def _empty(self, url: str) -> bool:
        """Bring a database to where it was; whether its schema and its settings still are there."""
        with psycopg.connect(url, autocommit=True) as link:
            link.execute(_END_OTHERS)
            if link.execute(_STATE.encode()).fetchall() != self._states[url]:
                return False
            filled = {table for (table,) in link.execute(_FILLED)} | self._rows.keys()
            # No trigger and no foreign key has a say in what is put back.
            link.execute("SET session_replication_role = replica")
            with link.transaction():
                tables = ", ".join(sorted(filled))
                link.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE".encode())
                for table, rows in self._rows.items():
                    with link.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                        copy.write(rows)
            for name, _ in set(link.execute(_SEQUENCES)) - set(self._sequences):
                link.execute("SELECT setval(%s, 1, false)", (name,))
            if sorted(link.execute(_SEQUENCES).fetchall()) != self._sequences:
                return False
            link.execute("SELECT pg_stat_reset()")
            self._states[url] = link.execute(_STATE.encode()).fetchall()
        return True
