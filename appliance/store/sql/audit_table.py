"""The audit trail in the table `audit`: what administrators did, bounded."""

from typing import Final

from appliance.model import timestamps
from appliance.store.access_rows import AuditEntry, Deed
from appliance.store.rows import Span
from appliance.store.sql.database import SqlConnection

#: Entries that are kept; the oldest make room for new ones.
MAX_ENTRIES: Final = 100_000
#: Characters of a text that are kept: a target can be what another AMQP client made up.
_MAX_TEXT: Final = 300

_COLUMNS: Final = "seq, at, who, address, action, target, details"


def write(connection: SqlConnection, deed: Deed) -> None:
    """Add an entry, within the transaction of what it tells."""
    by, *texts = deed
    values = [_cut(text) for text in (*by, *texts)]
    seq = connection.execute(
        "INSERT INTO audit (at, who, address, action, target, details) VALUES (?, ?, ?, ?, ?, ?) "
        "RETURNING seq",
        (timestamps.now(), *values),
    ).fetchone()[0]
    connection.execute("DELETE FROM audit WHERE seq <= ?", (seq - MAX_ENTRIES,))


def entries(connection: SqlConnection, span: Span, limit: int) -> list[AuditEntry]:
    """Return up to `limit` entries of the span."""
    where, values = ["1 = 1"], {"limit": limit}
    if span.before is not None:
        where.append("seq < :before")
        values["before"] = span.before
    if span.after is not None:
        where.append("seq > :after")
        values["after"] = span.after
    order = "DESC" if span.after is None else "ASC"
    query = (
        f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(where)} "  # noqa: S608  # ours
        f"ORDER BY seq {order} LIMIT :limit"
    )
    return [AuditEntry._make(row) for row in connection.execute(query, values)]


def redrives(connection: SqlConnection, message_id: str, limit: int) -> list[AuditEntry]:
    """Return the newest `limit` entries of letters that were sent again as this message."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE action = 'dead-letter-redrive' "  # noqa: S608  # ours
        "AND substr(details, 1, 48) = 'as message ' || ? || ' ' ORDER BY seq DESC LIMIT ?",
        (message_id, limit),
    )
    return [AuditEntry._make(row) for row in rows]


def _cut(text: str) -> str:
    # A lone surrogate is no text to SQLite, nor is NUL to PostgreSQL.
    clean = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= _MAX_TEXT else clean[: _MAX_TEXT - 3] + "..."
