"""An empty PostgreSQL database that takes all rows of another one, in one transaction."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

from appliance.store.move_sides import MovedRow
from appliance.store.moved_tables import ACCESS_VERSION, MOVED, MovedTable
from appliance.store.postgresql import departure, migrations
from appliance.store.postgresql.connections import PostgresConnection, location
from appliance.store.postgresql.departure import speaking_of

#: What no text of PostgreSQL's can have, and what stands for it.
_NUL = "\0"
_INSTEAD = "\ufffd"


class PostgresTarget:
    """The database at `url`, on a connection that holds the locks of those who write."""

    def __init__(self, url: str, connection: PostgresConnection) -> None:
        self._url = url
        self._connection = connection
        self.location = location(url)
        self.changed = 0

    def held(self) -> str:
        """Return which table has rows; empty where none has, and none ever had a message."""
        with speaking_of(self._url):
            for table in MOVED:
                query = f"SELECT EXISTS (SELECT 1 FROM {table.name})"  # noqa: S608
                is_empty = not self._connection.execute(query).fetchone()[0]
                if not is_empty and table.name != ACCESS_VERSION:
                    return f"the table {table.name} has rows"
            if departure.last_number(self._connection, MOVED[0]):
                return "messages were in it"
        return ""

    def fitted(self, table: MovedTable, row: MovedRow) -> MovedRow:
        """Return the row without a NUL in any text: such a body is kept as bytes."""
        for value in row:
            if type(value) is str and _NUL in value:
                return self._without_nul(table, row)
        return row

    def _without_nul(self, table: MovedTable, row: MovedRow) -> MovedRow:
        values = [
            value.encode() if name == "body" and isinstance(value, str) and _NUL in value else value
            for name, value in zip(table.columns, row, strict=True)
        ]
        fitting = tuple(v.replace(_NUL, _INSTEAD) if isinstance(v, str) else v for v in values)
        self.changed += fitting != tuple(values)
        return fitting

    def write(self, table: MovedTable, rows: Iterable[MovedRow]) -> None:
        """Fill a table."""
        columns = ", ".join(departure.columns_of(table))
        with speaking_of(self._url):
            if table.name == ACCESS_VERSION:  # the others have changed it
                self._connection.execute(f"DELETE FROM {table.name}")  # noqa: S608
            statement = f"COPY {table.name} ({columns}) FROM STDIN"
            with (
                self._connection.driver.cursor() as cursor,
                cursor.copy(statement.encode()) as copy,
            ):
                for row in _parted(table, rows):
                    copy.write_row(row)

    def go_on_after(self, table: MovedTable, number: int) -> None:
        """Let the next row have a greater number."""
        with speaking_of(self._url):
            if table.name == "messages":
                self._connection.execute(
                    "UPDATE shards SET last_seq = ? WHERE shard = 0", (number,)
                )
            elif number:
                name = departure.sequence(self._connection, table)
                self._connection.execute("SELECT setval(?, ?)", (name, number))

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows in the order of the key."""
        with speaking_of(self._url):
            yield from departure.all_rows(self._connection, table)

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row ever had."""
        with speaking_of(self._url):
            return departure.last_number(self._connection, table)

    def settle(self) -> None:
        """See that the connection is still there."""
        with speaking_of(self._url):
            self._connection.execute("SELECT 1")

    def commit(self) -> None:
        """Commit all rows; they are on disk, and at a synchronous standby, when this returns."""
        with speaking_of(self._url):
            self._connection.driver.commit_surely(departure.COMMIT_SECONDS)


def _parted(table: MovedTable, rows: Iterable[MovedRow]) -> Iterable[MovedRow]:
    """Yield rows with a body in the one or the other of its two columns."""
    if not table.is_mixed:
        return rows
    at = table.columns.index("body")
    return (
        (*row[: at + 1], None, *row[at + 1 :])
        if isinstance(row[at], str)
        else (*row[:at], None, *row[at:])
        for row in rows
    )


@contextmanager
def arriving(url: str) -> Iterator[PostgresTarget]:
    """Lend the database to be filled, brought to this program's schema; nobody writes meanwhile.

    Raises MovedError where it was left for another one before.
    """
    migrations.migrate(url)
    connection = departure.opened(url)
    try:
        with speaking_of(url):
            connection.execute("BEGIN")
            departure.lock(connection)
        yield PostgresTarget(url, connection)
    finally:
        connection.close()  # what is not committed is undone
