"""The table `sessions`: who signed in to the console; bounded. Called within a transaction."""

from collections.abc import Mapping
from typing import Final

from appliance.store.access_rows import SessionRow
from appliance.store.sql.database import SqlConnection

#: Sessions that are kept: all of them are held in memory.
MAX_SESSIONS: Final = 1000

_COLUMNS: Final = ", ".join(SessionRow._fields)


def session_rows(connection: SqlConnection) -> list[SessionRow]:
    """Return all sessions, the one that was used last first."""
    query = f"SELECT {_COLUMNS} FROM sessions ORDER BY last_used_at DESC, digest"  # noqa: S608
    return [SessionRow._make(row) for row in connection.execute(query)]


def add(connection: SqlConnection, session: SessionRow) -> None:
    """Add a session, and remove those that have ended and those that are too many."""
    connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (session.created_at,))
    connection.execute(
        "DELETE FROM sessions WHERE digest NOT IN "
        "(SELECT digest FROM sessions ORDER BY last_used_at DESC LIMIT ?)",
        (MAX_SESSIONS - 1,),
    )
    places = ", ".join("?" for _ in session)
    connection.execute(f"INSERT INTO sessions ({_COLUMNS}) VALUES ({places})", session)  # noqa: S608


def extend(connection: SqlConnection, ends: Mapping[bytes, tuple[str, str]]) -> None:
    """Set when sessions were used, and until when they count."""
    connection.executemany(
        "UPDATE sessions SET last_used_at = ?, expires_at = ? WHERE digest = ?",
        [(used_at, end, digest) for digest, (used_at, end) in ends.items()],
    )


def remove(connection: SqlConnection, digest: bytes) -> bool:
    """Remove a session; return whether it was there."""
    gone = connection.execute("DELETE FROM sessions WHERE digest = ?", (digest,)).rowcount
    return bool(gone)
