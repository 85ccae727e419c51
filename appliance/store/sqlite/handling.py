"""Messages that wait for a handler: handed out to processes, and told of to whoever asks.

Handing out is not synced: a power cut then lets messages wait again, as if nobody had had them.
Their outcomes are stored by a writer, whose commit is synced, and which finds each message only if
its process still has it. So two processes can run a handler for the same message after a crash, and
the results of one are stored.
"""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from appliance.model.handler_rules import HandlerRules
from appliance.store.handler_rows import (
    FunctionBacklog,
    HandledMessage,
    WaitingMessage,
    WaitingState,
)
from appliance.store.sqlite import handler_tables
from appliance.store.sqlite.connections import ThreadConnections
from appliance.store.sqlite.database import sqlite3, store_error
from appliance.store.sqlite.short_write import writing

_WAITING: Final = ", ".join(WaitingMessage._fields)
#: The message that failed before and is due for the longest time; new messages, whatever the clock.
_AGAIN: Final = f"""
    SELECT {_WAITING} FROM handler_messages
    WHERE function = ? AND holder = '' AND due_at > 0 AND due_at <= ? ORDER BY due_at, seq LIMIT 1
"""
_NEXT: Final = f"""
    SELECT {_WAITING} FROM handler_messages
    WHERE function = ? AND holder = '' AND due_at = 0 ORDER BY seq LIMIT ?
"""
_ENDED: Final = "its process ended while it had the message"
_STATE: Final = ", ".join(WaitingState._fields[:-1])
#: Messages of a function that are counted; beyond, there are at least so many.
_MOST_COUNTED: Final = 1_000_000


class SqliteHandling:
    """Reads on a connection for each thread, and writes in short transactions."""

    def __init__(self, path: Path, rules: HandlerRules) -> None:
        self._path = path
        self._rules = rules
        self._reads = ThreadConnections(path)

    def take(self, function: str, holder: str, limit: int, most_bytes: int) -> list[WaitingMessage]:
        """Give the process `holder` up to `limit` messages that wait for a function, oldest first.

        One that failed before comes alone: whatever it does to its process, it does to no other.
        A power cut can undo it, as if nothing had been given.
        """
        moment = time.time_ns() // 1_000_000
        if not self._read(_AGAIN, function, moment) and not self._read(_NEXT, function, 1):
            return []
        with writing(self._path, synced=False) as connection:
            row = connection.execute(_AGAIN, (function, moment)).fetchone()
            if row is not None:
                taken = [WaitingMessage._make(row)]
            else:
                taken = _some(connection.execute(_NEXT, (function, limit)), most_bytes)
            connection.execute(
                "UPDATE handler_messages SET holder = ? "
                "WHERE seq IN (SELECT value FROM json_each(?))",
                (holder, json.dumps([row.seq for row in taken])),
            )
        return taken

    def put_back(self, holder: str) -> None:
        """Let all messages that `holder` has wait again, as if it had never had them."""
        functions = self._functions()
        with writing(self._path, synced=False) as connection:
            connection.executemany(
                "UPDATE handler_messages SET holder = '' WHERE function = ? AND holder = ?",
                [(function, holder) for function in functions],
            )

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        """Let messages of processes that live no more wait again; return how many they were.

        Each has failed once more: one of them may have ended its process. `living` is asked while
        nobody else can be given a message: whoever has one by then was there before.
        """
        holders = {
            row[0]
            for function in self._functions()
            for row in self._read(
                "SELECT DISTINCT holder FROM handler_messages WHERE function = ? AND holder > ''",
                function,
            )
        }
        if holders <= set(living()):
            return 0
        with writing(self._path) as connection:
            return int(
                connection.execute(
                    "UPDATE handler_messages SET holder = '', attempts = attempts + 1, error = ? "
                    "WHERE holder IN (SELECT value FROM json_each(?))",
                    (_ENDED, json.dumps(sorted(holders - set(living())))),
                ).rowcount
            )

    def backlog(self, most: int = _MOST_COUNTED) -> list[FunctionBacklog]:
        """Return what waits, by function; of each `most` messages are looked at."""
        found = []
        for function in self._functions():
            ((waiting, retrying, oldest),) = self._read(
                "SELECT count(*), coalesce(sum(attempts > 0), 0), min(received_at) FROM "
                "(SELECT attempts, received_at FROM handler_messages WHERE function = ? LIMIT ?)",
                function, most,
            )  # fmt: skip
            found.append(FunctionBacklog(function, waiting, retrying, oldest))
        return found

    def waiting(self, message_id: str) -> WaitingState | None:
        """Return the message with this id, if it waits for its handler."""
        rows = self._read(
            f"SELECT {_STATE}, octet_length(body) FROM handler_messages WHERE id = ?", message_id
        )
        return WaitingState._make(rows[0]) if rows else None

    def handled(self, message_id: str) -> HandledMessage | None:
        """Return what became of the message with this id, if it was handled."""
        fields = ", ".join(HandledMessage._fields)
        rows = self._read(f"SELECT {fields} FROM handled_messages WHERE id = ?", message_id)
        return HandledMessage._make(rows[0]) if rows else None

    def forget(self, before: str, limit: int) -> bool:
        """Forget messages that were handled before a time; return whether there may be more."""
        topics = self._read(handler_tables.TOPICS)
        for (topic,) in topics:
            where = "topic = ? AND handled_at < ?"
            if not self._read(
                f"SELECT 1 FROM handled_messages WHERE {where} LIMIT 1", topic, before
            ):
                continue
            with writing(self._path, synced=False) as connection:
                gone = connection.execute(
                    "DELETE FROM handled_messages WHERE id IN "
                    f"(SELECT id FROM handled_messages WHERE {where} LIMIT ?)",
                    (topic, before, limit),
                ).rowcount
            return bool(gone)
        return False

    def has_strays(self) -> bool:
        """Whether messages wait for a function that no rule names (see ReleasedMessages)."""
        known = set(self._rules.functions)
        return any(function not in known for function in self._functions())

    def close(self) -> None:
        """Close what the calling thread keeps open."""
        self._reads.close()

    def _functions(self) -> list[str]:
        return [row[0] for row in self._read(handler_tables.FUNCTIONS)]

    def _read(self, query: str, *values: Any) -> list[Any]:
        connection = self._reads.get()
        try:
            rows: list[Any] = connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._reads.drop(connection)
            raise store_error(error, self._path) from error
        return rows


def _some(rows: Any, most_bytes: int) -> list[WaitingMessage]:
    """Return the first rows that go together: those below the bound, or one that failed before."""
    taken: list[WaitingMessage] = []
    size = 0
    for row in map(WaitingMessage._make, rows):
        size += len(row.body)
        if taken and (row.attempts or size > most_bytes):
            break
        taken.append(row)
        if row.attempts:
            break
    rows.close()
    return taken
