"""Dead letters: reads page by page, and the removal of one.

A letter is named by its `seq`: several letters can carry the same message's id, because an
idempotency key that comes with a third body makes a second conflict.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from appliance.store.access_rows import Deed
from appliance.store.paging import pieces, take
from appliance.store.rows import PAGE_BYTES, SHOWN_BYTES, Choice, Letter, Page, QuarantineTotals
from appliance.store.sql import audit_table
from appliance.store.sql.database import SqlDatabase
from appliance.store.sql.patterns import pattern_text
from appliance.store.sql.quarantine import totals

#: Bytes of a body that come with its row.
_SHOWN: Final = f"CASE WHEN octet_length(body) <= {SHOWN_BYTES} THEN octet_length(body) ELSE 0 END"
_REASONS: Final = """
    SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY 2 DESC, 1
"""
#: Read from an index alone. A topic is compared with patterns once for all of its letters.
_COUNTS: Final = """
    WITH counts AS MATERIALIZED (
        SELECT topic, reason, count(*) AS letters FROM dead_letters GROUP BY topic, reason
    )
"""


class StoredDeadLetters:
    """Reads, and removes in short transactions."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        words = database.words
        self._matches = words.matches
        self._columns = (
            "seq, id, topic, received_at, dead_at, reason, error, octet_length(body), "
            f"CASE WHEN octet_length(body) <= {SHOWN_BYTES} THEN {words.letter_body} END, "
            "content_type, meta"
        )

    def page(self, choice: Choice, limit: int, max_bytes: int = PAGE_BYTES) -> Page[Letter]:
        """Return up to `limit` letters with up to `max_bytes` of bodies; at least one if any."""
        where, values = self._where(choice)
        query = self._database.words.page.format(
            columns=self._columns,
            source="dead_letters",
            where=where,
            order="seq DESC" if choice.after is None else "seq ASC",
            table="dead_letters",
            size=_SHOWN,
        )
        values |= {"limit": limit + 1, "max_bytes": max_bytes}
        with self._database.reading() as connection:
            cursor = connection.execute(query, values)
            return take(cursor, Letter._make, limit, max_bytes)

    def pieces(self, choice: Choice, limit: int | None = None) -> Iterator[list[Letter]]:
        """Yield up to `limit` letters (None: all that are stored now) in lists of some 256 KiB."""
        newest = self.page(Choice(), 1).rows
        return pieces(self.page, choice, newest[0].seq if newest else 0, limit)

    def count(self, choice: Choice) -> int:
        """Return the number of letters with the choice's reason and topic, whatever its span."""
        where, values = self._where(replace(choice, before=None, after=None))
        query = f"SELECT count(*) FROM dead_letters WHERE {where}"  # noqa: S608  # ours
        if choice.patterns is not None:
            query = f"{_COUNTS} SELECT coalesce(sum(letters), 0) FROM counts WHERE {where}"  # noqa: S608  # ours
        with self._database.reading() as connection:
            return int(connection.execute(query, values).fetchone()[0])

    def reasons(self, patterns: Sequence[str] | None = None) -> list[tuple[str, int]]:
        """Return the reasons and how many letters each has, the most first."""
        query = _REASONS
        if patterns is not None:
            query = (
                f"{_COUNTS} SELECT reason, sum(letters) FROM counts "  # noqa: S608  # ours
                f"WHERE {self._matches} GROUP BY reason ORDER BY 2 DESC, 1"
            )
        values = {} if patterns is None else {"patterns": pattern_text(patterns)}
        with self._database.reading() as connection:
            return list(connection.execute(query, values).fetchall())

    def of_topics(self, topics: Sequence[str]) -> dict[str, int]:
        """Return how many letters each of these topics has; those without any are left out."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT topic, count(*) FROM dead_letters "  # noqa: S608  # ours
                f"WHERE topic IN ({self._database.words.texts_of('?')}) GROUP BY topic",
                (json.dumps(list(topics)),),
            ).fetchall()
        return dict(rows)

    def find(self, seq: int) -> Letter | None:
        """Return the letter with this `seq`, or None."""
        with self._database.reading() as connection:
            query = f"SELECT {self._columns} FROM dead_letters WHERE seq = ?"  # noqa: S608  # ours
            row = connection.execute(query, (seq,)).fetchone()
        return None if row is None else Letter._make(row)

    def quarantine(self) -> QuarantineTotals:
        """Return how many letters are quarantined, and how many had to go again."""
        with self._database.reading() as connection:
            return totals(connection)

    def of_message(self, message_id: str, patterns: Sequence[str] | None = None) -> list[int]:
        """Return the `seq` of each letter with this message's id, oldest first."""
        with self._database.reading() as connection:
            query = f"SELECT seq FROM dead_letters WHERE id = :id AND {self._matches} ORDER BY seq"  # noqa: S608  # ours
            values = {"id": message_id, "patterns": pattern_text(patterns)}
            return [row[0] for row in connection.execute(query, values)]

    def body(self, seq: int) -> bytes | None:
        """Return a letter's body, however long it is; None where there is no such letter."""
        with self._database.reading() as connection:
            query = f"SELECT {self._database.words.letter_body} FROM dead_letters WHERE seq = ?"  # noqa: S608
            row = connection.execute(query, (seq,)).fetchone()
        return None if row is None else row[0]

    def remove(self, letter: Letter, deed: Deed | None = None) -> bool:
        """Remove a letter; return whether it was still there as it was read.

        A letter that has died again since then has another `dead_at`, and stays. `deed` goes into
        the audit trail in the same transaction.
        """
        with self._database.writing() as connection:
            removed = connection.execute(
                "DELETE FROM dead_letters WHERE seq = ? AND dead_at = ?",
                (letter.seq, letter.dead_at),
            ).rowcount
            if removed and deed is not None:
                audit_table.write(connection, deed)
        return bool(removed)

    def _where(self, choice: Choice) -> tuple[str, dict[str, Any]]:
        """Return the condition, and the values of its parameters."""
        conditions = {
            "reason": "reason = :reason",
            "topic": "topic = :topic",
            "before": "seq < :before",
            "after": "seq > :after",
            "patterns": self._matches,
        }
        values = {
            name: value for name in conditions if (value := getattr(choice, name)) is not None
        }
        text = " AND ".join(conditions[name] for name in values)
        if choice.patterns is not None:
            values["patterns"] = pattern_text(choice.patterns)
        return text or "1 = 1", values
