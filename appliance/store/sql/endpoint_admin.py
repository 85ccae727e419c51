"""Endpoints as administrators see them: a change and its entry in the audit trail are one write."""

# ruff: noqa: S608  # the SQL is put together from texts of this module, and values are bound

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.errors import ExistsError, LimitError
from appliance.model import timestamps
from appliance.store.access_rows import Deed
from appliance.store.endpoint_rows import (
    ACTIVE,
    GIVEN_UP,
    GONE,
    PAUSED,
    WAITING,
    AttemptRow,
    DueRow,
    EndpointBacklog,
    EndpointRow,
    Outfit,
)
from appliance.store.rows import Span
from appliance.store.sql import audit_table, endpoint_tables
from appliance.store.sql.database import SqlConnection, SqlDatabase, SqlWords
from appliance.store.sql.following import end_of
from appliance.store.sql.lag import lag

#: Endpoints, each of which costs memory and reads of its own; and secrets of one of them.
MAX_ENDPOINTS: Final = 100
MAX_SECRETS: Final = 10
#: Messages behind the place of an endpoint of some topics that are counted.
MOST_BEHIND: Final = 100_000

#: The name by which the transactions keep each other out.
_ALONE: Final = "endpoints"

_DUE: Final = ", ".join(DueRow._fields)
_ATTEMPT: Final = ", ".join(AttemptRow._fields)


class StoredEndpoints:
    """Writes in short transactions, one at a time."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def all(self) -> list[EndpointRow]:
        """Return all endpoints by name."""
        with self._database.reading() as connection:
            return endpoint_tables.endpoint_rows(connection, "1 = 1 ORDER BY name")

    def find(self, name: str) -> EndpointRow | None:
        """Return the endpoint with this name, or None."""
        with self._database.reading() as connection:
            return _find(connection, name)

    def outfit(self, name: str) -> Outfit | None:
        """Return the endpoint with this name and the secrets of its requests, or None."""
        with self._database.reading() as connection:
            found = endpoint_tables.outfits(connection, "name = ?", (name,))
        return found[0] if found else None

    def backlog(self, endpoint: EndpointRow) -> EndpointBacklog:
        """Return what an endpoint has before it."""
        with self._database.reading() as connection:
            behind, oldest_at = _behind(connection, self._database.words, endpoint)
            states = dict(
                connection.execute(
                    "SELECT state, count(*) FROM deliveries_due WHERE endpoint = ? GROUP BY state",
                    (endpoint.id,),
                ).fetchall()
            )
            lanes = connection.execute(
                "SELECT count(*) FROM delivery_lanes WHERE endpoint = ?", (endpoint.id,)
            ).fetchone()[0]
        waiting, given_up, gone = (states.get(state, 0) for state in (WAITING, GIVEN_UP, GONE))
        return EndpointBacklog(behind, oldest_at, waiting, given_up, gone, lanes)

    def create(
        self,
        endpoint: EndpointRow,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        start: int | None,
        deed: Deed,
    ) -> EndpointRow:
        """Add an endpoint; return it with its id and its cursor. Raises ExistsError, LimitError."""
        with self._database.writing(alone=_ALONE) as connection:
            count, same = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE name = ?) FROM endpoints", (endpoint.name,)
            ).fetchone()
            if same:
                raise ExistsError(
                    f"there is an endpoint {endpoint.name} already; remove it, or choose another "
                    "name"
                )
            if count >= MAX_ENDPOINTS:
                raise LimitError(f"there are {count} endpoints already; remove some")
            end = end_of(connection, self._database.words)
            number = connection.execute(
                "INSERT INTO endpoints (name, url, topics, conditions, settings, state, reason, "
                "created_at, changed_at, cursor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "RETURNING id",
                (
                    endpoint.name, *_told(endpoint), endpoint.state, endpoint.reason,
                    endpoint.created_at, endpoint.changed_at, end if start is None else start,
                ),
            ).fetchone()[0]  # fmt: skip
            for secret in reversed(secrets):  # the newest one is the first
                _add_secret(connection, number, None, secret)
            _set_headers(connection, number, headers)
            audit_table.write(connection, deed)
            made = _find(connection, endpoint.name)
        assert made is not None  # noqa: S101  # it was added in this transaction
        return made

    def update(
        self, endpoint: EndpointRow, headers: Mapping[str, str] | None, deed: Deed
    ) -> EndpointRow | None:
        """Give the endpoint of this name its URL, topics, conditions and settings."""
        with self._database.writing(alone=_ALONE) as connection:
            found = connection.execute(
                "UPDATE endpoints SET url = ?, topics = ?, conditions = ?, settings = ?, "
                "changed_at = ?, failures = 0, broken_at = NULL, retry_at = NULL, trouble = '' "
                "WHERE name = ? RETURNING id",
                (*_told(endpoint), timestamps.now(), endpoint.name),
            ).fetchone()
            if found is None:
                return None
            if headers is not None:
                _set_headers(connection, found[0], headers)
            audit_table.write(connection, deed)
            return _find(connection, endpoint.name)

    def pause(self, name: str, reason: str, deed: Deed) -> bool:
        """Let an endpoint get nothing until it is resumed; return whether it was there."""
        return self._set_state(name, PAUSED, reason, deed)

    def resume(self, name: str, deed: Deed) -> bool:
        """Let an endpoint get messages again; what waits is tried at once."""
        return self._set_state(name, ACTIVE, "", deed)

    def _set_state(self, name: str, state: str, reason: str, deed: Deed) -> bool:
        with self._database.writing(alone=_ALONE) as connection:
            row = connection.execute(
                "UPDATE endpoints SET state = ?, reason = ?, changed_at = ? WHERE name = ? "
                "RETURNING id",
                (state, reason, timestamps.now(), name),
            ).fetchone()
            if row is None:
                return False
            if state == ACTIVE:
                now = time.time()
                connection.execute(
                    "UPDATE endpoints SET failures = 0, broken_at = NULL, retry_at = NULL, "
                    "trouble = '' WHERE id = ?",
                    row,
                )
                for table, waits in (
                    ("deliveries_due", "AND state = 'waiting'"),
                    ("delivery_lanes", ""),
                ):
                    connection.execute(
                        f"UPDATE {table} SET due_at = ? WHERE endpoint = ? AND due_at > ? {waits}",
                        (now, *row, now),
                    )
            audit_table.write(connection, deed)
        return True

    def remove(self, name: str, deed: Deed) -> bool:
        """Remove an endpoint and all that waits for it; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            gone = connection.execute("DELETE FROM endpoints WHERE name = ?", (name,)).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)

    def add_secret(self, name: str, secret: str, old_until: str | None, deed: Deed) -> int | None:
        """Sign with a further secret; return its id (None: no such endpoint)."""
        with self._database.writing(alone=_ALONE) as connection:
            number = _id(connection, name)
            if number is None:
                return None
            connection.execute(
                "DELETE FROM endpoint_secrets WHERE endpoint = ? AND header IS NULL "
                "AND expires_at <= ?",
                (number, timestamps.now()),
            )
            if _signing(connection, number) >= MAX_SECRETS:
                raise LimitError(f"{MAX_SECRETS} secrets of {name} still sign; end some of them")
            if old_until is not None:
                connection.execute(
                    "UPDATE endpoint_secrets SET expires_at = ? WHERE endpoint = ? "
                    "AND header IS NULL AND (expires_at IS NULL OR expires_at > ?)",
                    (old_until, number, old_until),
                )
            added = _add_secret(connection, number, None, secret)
            audit_table.write(connection, deed)
        return added

    def remove_secret(self, name: str, secret_id: int, deed: Deed) -> bool:
        """Sign no more with a secret; return whether it was there. Raises LimitError."""
        with self._database.writing(alone=_ALONE) as connection:
            number = _id(connection, name)
            gone = connection.execute(
                "DELETE FROM endpoint_secrets WHERE endpoint = ? AND id = ? AND header IS NULL",
                (number, secret_id),
            ).rowcount
            if gone:
                if not _signing(connection, number):
                    raise LimitError(f"{name} has no other secret to sign with; add one first")
                audit_table.write(connection, deed)
        return bool(gone)

    def due(self, name: str, state: str | None, span: Span, limit: int) -> list[DueRow]:
        """Return up to `limit` messages whose delivery failed, in this state (None: any)."""
        where, values = _within(span)
        where.append("endpoint = (SELECT id FROM endpoints WHERE name = :name)")
        values |= {"name": name, "limit": limit}
        if state is not None:
            where.append("state = :state")
            values["state"] = state
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_DUE} FROM deliveries_due WHERE {' AND '.join(where)} "
                f"ORDER BY id {_order(span)} LIMIT :limit",
                values,
            ).fetchall()
        return [DueRow._make(row) for row in rows]

    def redrive(self, name: str, ids: Sequence[int] | None, deed: Deed) -> int:
        """Have messages that were given up tried again, all for None; return how many."""
        now = time.time()
        with self._database.writing(alone=_ALONE) as connection:
            which, values = _chosen(self._database.words, ids)
            count = int(
                connection.execute(
                    "UPDATE deliveries_due SET state = 'waiting', attempts = 0, "
                    "first_at = :now, due_at = :now "
                    "WHERE endpoint = (SELECT id FROM endpoints WHERE name = :name) "
                    f"AND state = 'given-up' {which}",
                    {"name": name, "now": now, **values},
                ).rowcount
            )
            if count:
                audit_table.write(connection, deed)
        return count

    def discard(self, name: str, ids: Sequence[int] | None, deed: Deed) -> int:
        """Forget messages that were given up or are gone; with ids also those that wait."""
        with self._database.writing(alone=_ALONE) as connection:
            which, values = _chosen(self._database.words, ids)
            states = "" if ids is not None else "AND state IN ('given-up', 'gone')"
            count = int(
                connection.execute(
                    "DELETE FROM deliveries_due "
                    "WHERE endpoint = (SELECT id FROM endpoints WHERE name = :name) "
                    f"{states} {which}",
                    {"name": name, **values},
                ).rowcount
            )
            if count:
                audit_table.write(connection, deed)
        return count

    def attempts(
        self,
        span: Span,
        limit: int,
        *,
        name: str | None = None,
        message_id: str | None = None,
        failed: bool = False,
    ) -> list[AttemptRow]:
        """Return up to `limit` attempts of an endpoint, of a message, or of both."""
        where, values = _within(span)
        values["limit"] = limit
        if name is not None:
            where.append("endpoint = (SELECT id FROM endpoints WHERE name = :name)")
            values["name"] = name
        if message_id is not None:
            where.append("seq = (SELECT seq FROM messages WHERE id = :message)")
            values["message"] = message_id
        if failed:
            where.append("error != ''")
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_ATTEMPT} FROM deliveries WHERE {' AND '.join(where)} "
                f"ORDER BY id {_order(span)} LIMIT :limit",
                values,
            ).fetchall()
        return [AttemptRow._make(row) for row in rows]


def _behind(
    connection: SqlConnection, words: SqlWords, endpoint: EndpointRow
) -> tuple[int, str | None]:
    """Return how many messages lie behind an endpoint's place, and when the first was received."""
    end = end_of(connection, words)
    count, first = max(0, end - endpoint.cursor), endpoint.cursor + 1
    if count and "*" not in endpoint.topics:
        found, seq = lag(connection, words, endpoint.topics, endpoint.cursor, MOST_BEHIND)
        count, first = min(found, MOST_BEHIND), seq or first
    if not count:
        return 0, None
    oldest = connection.execute(
        "SELECT received_at FROM messages WHERE seq >= ? ORDER BY seq LIMIT 1", (first,)
    ).fetchone()
    return (count, oldest[0]) if oldest else (0, None)


def _find(connection: SqlConnection, name: str) -> EndpointRow | None:
    found = endpoint_tables.endpoint_rows(connection, "name = ?", (name,))
    return found[0] if found else None


def _id(connection: SqlConnection, name: str) -> int | None:
    row = connection.execute("SELECT id FROM endpoints WHERE name = ?", (name,)).fetchone()
    return row and int(row[0])


def _told(endpoint: EndpointRow) -> tuple[str, str, str, str]:
    """Return what an administrator says of an endpoint, as the table has it."""
    lists = (json.dumps(endpoint.topics), json.dumps(endpoint.where))
    return (endpoint.url, *lists, json.dumps(endpoint.settings))


def _add_secret(connection: SqlConnection, endpoint: int, header: str | None, secret: str) -> int:
    return int(
        connection.execute(
            "INSERT INTO endpoint_secrets (endpoint, header, secret, created_at) "
            "VALUES (?, ?, ?, ?) RETURNING id",
            (endpoint, header, secret, timestamps.now()),
        ).fetchone()[0]
    )


def _set_headers(connection: SqlConnection, endpoint: int, headers: Mapping[str, str]) -> None:
    connection.execute(
        "DELETE FROM endpoint_secrets WHERE endpoint = ? AND header IS NOT NULL", (endpoint,)
    )
    for name, value in headers.items():
        _add_secret(connection, endpoint, name, value)


def _signing(connection: SqlConnection, endpoint: int | None) -> int:
    """Return how many secrets sign now."""
    return int(
        connection.execute(
            "SELECT count(*) FROM endpoint_secrets WHERE endpoint = ? AND header IS NULL "
            "AND (expires_at IS NULL OR expires_at > ?)",
            (endpoint, timestamps.now()),
        ).fetchone()[0]
    )


def _within(span: Span) -> tuple[list[str], dict[str, Any]]:
    where, values = ["1 = 1"], {}
    for name, sign in (("before", "<"), ("after", ">")):
        if (bound := getattr(span, name)) is not None:
            where.append(f"id {sign} :{name}")
            values[name] = bound
    return where, values


def _order(span: Span) -> str:
    return "DESC" if span.after is None else "ASC"


def _chosen(words: SqlWords, ids: Sequence[int] | None) -> tuple[str, dict[str, Any]]:
    if ids is None:
        return "", {}
    return f"AND id IN ({words.numbers_of(':ids')})", {"ids": json.dumps(list(ids))}
