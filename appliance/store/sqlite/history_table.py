"""The table `history`: how each minute was; bounded."""

from pathlib import Path
from typing import Final

from appliance.model.history_points import HistoryPoint
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.short_write import writing

#: Minutes that are kept: two weeks. They are counted, whatever the clock says: one that is wrong
#: for a while must not delete the true ones.
MAX_MINUTES: Final = 14 * 24 * 60

_COUNTS: Final = ("seconds", "accepted", "stored", "refused", "dead")
_PEAKS: Final = ("waiting", "oldest_seconds", "p50_seconds", "p99_seconds")

# A minute can come in parts, when the janitor was restarted within it. SQLite's max(a, NULL) and
# min(a, NULL) are NULL, so each is compared with the other where it is known.
_SUMS: Final = [f"{name} = {name} + excluded.{name}" for name in _COUNTS]
_EXTREMES: Final = [
    f"{name} = {extreme}(coalesce({name}, excluded.{name}), coalesce(excluded.{name}, {name}))"
    for extreme, names in (("max", _PEAKS), ("min", ("disk_free_bytes",)))
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


class SqliteHistory:
    """Reads through `reader`, and writes in short transactions that cost no fsync."""

    def __init__(self, path: Path, reader: SqliteReader) -> None:
        self._path = path
        self._reader = reader

    def add(self, point: HistoryPoint) -> None:
        """Keep a minute's point, or add it to what is kept of that minute; the oldest go."""
        with writing(self._path, synced=False) as connection:
            connection.execute(_ADD, point)
            connection.execute(_BOUND, (MAX_MINUTES,))

    def points(self, since: int, until: int, step: int) -> list[HistoryPoint]:
        """Return the points that begin from `since` until before `until`, `step` seconds wide."""
        with self._reader.reading() as connection:
            values = {"since": since, "until": until, "step": step}
            rows = connection.execute(_POINTS, values).fetchall()
        return [HistoryPoint._make(row) for row in rows]
