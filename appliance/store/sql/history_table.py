"""The table `history`: how each minute was; bounded."""

from typing import Final

from appliance.model.history_points import HistoryPoint
from appliance.store.sql.database import SqlDatabase

#: Minutes that are kept: two weeks. They are counted, whatever the clock says: one that is wrong
#: for a while must not delete the true ones.
MAX_MINUTES: Final = 14 * 24 * 60

_COUNTS: Final = ("seconds", "accepted", "stored", "refused", "dead")
_PEAKS: Final = ("waiting", "oldest_seconds", "p50_seconds", "p99_seconds")

# A minute can come in parts, when the janitor was restarted within it. A part's NULL is not known,
# and leaves what is known of another.
_SUMS: Final = [f"{name} = history.{name} + excluded.{name}" for name in _COUNTS]
_EXTREMES: Final = [
    f"{name} = CASE WHEN history.{name} IS NULL OR excluded.{name} {sign} history.{name} "
    f"THEN excluded.{name} ELSE history.{name} END"
    for sign, names in ((">", _PEAKS), ("<", ("disk_free_bytes",)))
    for name in names
]
_ADD: Final = (
    f"INSERT INTO history ({', '.join(HistoryPoint._fields)}) "  # noqa: S608  # ours
    f"VALUES ({', '.join('?' for _ in HistoryPoint._fields)}) "
    f"ON CONFLICT (at) DO UPDATE SET {', '.join([*_SUMS, *_EXTREMES])}"
)
_BOUND: Final = (
    "DELETE FROM history WHERE at <= (SELECT at FROM history ORDER BY at DESC LIMIT 1 OFFSET ?)"
)
_POINTS: Final = (
    "SELECT at / :step * :step, "  # noqa: S608  # ours
    f"{', '.join(f'sum({name})' for name in _COUNTS)}, "
    f"{', '.join(f'max({name})' for name in _PEAKS)}, min(disk_free_bytes) "
    "FROM history WHERE at >= :since AND at < :until GROUP BY 1 ORDER BY 1"
)


class StoredHistory:
    """Reads, and writes in short transactions that cost no fsync."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def add(self, point: HistoryPoint) -> None:
        """Keep a minute's point, or add it to what is kept of that minute; the oldest go."""
        with self._database.writing(synced=False) as connection:
            connection.execute(_ADD, point)
            connection.execute(_BOUND, (MAX_MINUTES,))

    def points(self, since: int, until: int, step: int) -> list[HistoryPoint]:
        """Return the points that begin from `since` until before `until`, `step` seconds wide."""
        with self._database.reading() as connection:
            values = {"since": since, "until": until, "step": step}
            rows = connection.execute(_POINTS, values).fetchall()
        return [HistoryPoint._make(row) for row in rows]
