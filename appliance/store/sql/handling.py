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
from typing import Any, Final

from appliance.model.handler_rules import HandlerRules
from appliance.store.handler_rows import (
    FunctionBacklog,
    HandledMessage,
    WaitingMessage,
    WaitingState,
)
from appliance.store.sql import handler_tables
from appliance.store.sql.database import SqlConnection, SqlCursor, SqlDatabase, body_value

#: The message that failed before and is due for the longest time; new messages, whatever the clock.
_AGAIN: Final = """
    SELECT {} FROM handler_messages
    WHERE function = ? AND holder = '' AND due_at > 0 AND due_at <= ? ORDER BY due_at, seq LIMIT 1
"""
_NEXT: Final = """
    SELECT {} FROM handler_messages
    WHERE function = ? AND holder = '' AND due_at = 0 ORDER BY seq LIMIT ?
"""
#: The name by which the transactions keep each other out.
_ALONE: Final = "handlers"
_ENDED: Final = "its process ended while it had the message"
_STATE: Final = ", ".join(WaitingState._fields[:-1])
#: Messages of a function that are counted; beyond, there are at least so many.
_MOST_COUNTED: Final = 1_000_000


class StoredHandling:
    """Reads on connections of its own, and writes in short transactions."""

    def __init__(self, database: SqlDatabase, rules: HandlerRules) -> None:
        self._database = database.apart()
        self._words = database.words
        self._rules = rules
        columns = ", ".join(
            database.words.body_pair if name == "body" else name for name in WaitingMessage._fields
        )
        self._again, self._next = _AGAIN.format(columns), _NEXT.format(columns)

    def take(self, function: str, holder: str, limit: int, most_bytes: int) -> list[WaitingMessage]:
        """Give the process `holder` up to `limit` messages that wait for a function, oldest first.

        One that failed before comes alone: whatever it does to its process, it does to no other.
        A power cut can undo it, as if nothing had been given.
        """
        moment = time.time_ns() // 1_000_000
        if not self._read(self._again, function, moment) and not self._read(
            self._next, function, 1
        ):
            return []
        self._show(holder)
        with self._database.writing(synced=False, alone=_ALONE) as connection:
            row = connection.execute(self._again, (function, moment)).fetchone()
            if row is not None:
                taken = [_waiting(row)]
            else:
                taken = _some(connection.execute(self._next, (function, limit)), most_bytes)
            connection.execute(
                "UPDATE handler_messages SET holder = ? "
                f"WHERE seq IN ({self._words.numbers_of('?')})",
                (holder, json.dumps([row.seq for row in taken])),
            )
        return taken

    def put_back(self, holder: str) -> None:
        """Let all messages that `holder` has wait again, as if it had never had them."""
        functions = self._functions()
        with self._database.writing(synced=False, alone=_ALONE) as connection:
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
        with self._database.writing(alone=_ALONE) as connection:
            ended = self._ended(connection, holders - set(living()))
            return int(
                connection.execute(
                    "UPDATE handler_messages SET holder = '', attempts = attempts + 1, error = ? "
                    f"WHERE holder IN ({self._words.texts_of('?')})",
                    (_ENDED, json.dumps(sorted(ended))),
                ).rowcount
            )

    def backlog(self, most: int = _MOST_COUNTED) -> list[FunctionBacklog]:
        """Return what waits, by function; of each `most` messages are looked at."""
        found = []
        for function in self._functions():
            ((waiting, retrying, oldest),) = self._read(
                "SELECT count(*), count(*) FILTER (WHERE attempts > 0), min(received_at) FROM "
                "(SELECT attempts, received_at FROM handler_messages WHERE function = ? LIMIT ?) "
                "AS waiting",
                function, most,
            )  # fmt: skip
            found.append(FunctionBacklog(function, waiting, retrying, oldest))
        return found

    def waiting(self, message_id: str) -> WaitingState | None:
        """Return the message with this id, if it waits for its handler."""
        rows = self._read(
            f"SELECT {_STATE}, {self._words.body_bytes} FROM handler_messages WHERE id = ?",
            message_id,
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
            with self._database.writing(synced=False, alone=_ALONE) as connection:
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
        """Close what all threads keep open; what is in use, after its use."""
        self._database.close()

    def _show(self, holder: str) -> None:
        """Let those see that a process lives who can't see it on its host."""

    def _ended(self, connection: SqlConnection, names: Collection[str]) -> Collection[str]:  # noqa: ARG002
        """Return those of the processes, which don't live on this host, that live nowhere."""
        return names

    def _functions(self) -> list[str]:
        return [row[0] for row in self._read(handler_tables.FUNCTIONS)]

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._database.reading() as connection:
            return connection.execute(query, values).fetchall()


def _waiting(values: Any) -> WaitingMessage:
    place = WaitingMessage._fields.index("body")
    body = body_value(values[place], values[place + 1])
    return WaitingMessage._make([*values[:place], body, *values[place + 2 :]])


def _some(rows: SqlCursor, most_bytes: int) -> list[WaitingMessage]:
    """Return the first rows that go together: those below the bound, or one that failed before."""
    taken: list[WaitingMessage] = []
    size = 0
    for row in map(_waiting, rows):
        size += len(row.body)
        if taken and (row.attempts or size > most_bytes):
            break
        taken.append(row)
        if row.attempts:
            break
    rows.close()
    return taken
