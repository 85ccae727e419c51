"""What is in a side's database, seen from outside by a reader of its own.

As a program it watches a database for commits: polls `PRAGMA data_version` (one read of shared
memory) every half millisecond, and when it changed notes which rows are there now. So a commit is
seen at most about 0.6 ms after it happened: that is added to what is reported, never taken off.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from appliance.store.sqlite.database import connect
from appliance.store.sqlite.migrations import migrate
from bench.load import TAG_LENGTH

#: Seconds between two looks for a commit.
RESOLUTION = 0.0005


class Rows:
    """The rows of one SQLite database."""

    def __init__(self, path: Path) -> None:
        self._connection: Any = connect(path, readonly=True)

    def last(self) -> int:
        """Return the newest row's number, 0 if there is none."""
        return self._connection.execute("SELECT max(seq) FROM messages").fetchone()[0] or 0

    def count(self, after: int) -> tuple[int, int]:
        """Return how many rows came after row `after`, and how many different tags they bear."""
        query = f"""
            SELECT count(*), count(DISTINCT substr(body, 1, {TAG_LENGTH}))
            FROM messages WHERE seq > ?
        """
        return self._connection.execute(query, (after,)).fetchone()

    def version(self) -> int:
        """Return a number that changes with each commit of someone else's."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    def numbers(self, after: int) -> list[tuple[int, int]]:
        """Return (row, request) of each row after `after`."""
        query = "SELECT seq, CAST(substr(body, 1, 9) AS INTEGER) FROM messages WHERE seq > ?"
        return self._connection.execute(query, (after,)).fetchall()

    def close(self) -> None:
        self._connection.close()


class PostgresRows:
    """The rows of one PostgreSQL database. Each look costs the server some 0.1 ms of CPU."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.prepare_threshold = 0

    def last(self) -> int:
        """Return the newest row's number, 0 if there is none."""
        row = self._connection.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()
        return row[0] if row else 0

    def count(self, after: int) -> tuple[int, int]:
        """Return how many rows came after row `after`, and how many different tags they bear."""
        query = """
            SELECT count(*), count(DISTINCT substr(body, 1, %s)) FROM messages WHERE seq > %s
        """
        row = self._connection.execute(query, (TAG_LENGTH, after)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def close(self) -> None:
        self._connection.close()


def rows_of(database: Path | str) -> Rows | PostgresRows:
    """Open a database: a file of SQLite's, or the URL of one of PostgreSQL's."""
    return Rows(database) if isinstance(database, Path) else PostgresRows(database)


def make(path: Path) -> Path:
    """Make a database with the appliance's own schema, page size and journal mode."""
    migrate(path)
    return path


def main() -> None:
    """Watch the database named on the command line until SIGTERM; print [request, seen] pairs."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    rows = Rows(Path(sys.argv[1]))
    last, version, seen = rows.last(), rows.version(), []
    print("watching", flush=True)
    while not ended:
        if (now := rows.version()) != version:
            version = now
            fresh = rows.numbers(last)
            moment = time.monotonic()
            last = max([last, *(row for row, _ in fresh)])
            seen.extend((number, moment) for _, number in fresh)
        time.sleep(RESOLUTION)
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
