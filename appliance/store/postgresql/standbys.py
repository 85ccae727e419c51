"""Standbys: on how many servers beside the primary a message is when its commit returns.

Two things decide that. The setting `synchronous_standby_names` says for how many standbys a commit
waits; every user may read it. Which of them are connected is shown to users with the rights of
`pg_read_all_stats` only: a commit that waits for one which is away does not return.
"""

import re
from typing import Any, Final, NamedTuple

from appliance.errors import FewCopiesError

#: How many of the names a commit waits for: `ANY 2 (a, b, c)`, `FIRST 1 (*)`, `2 (a, b)`; else 1.
_NUMBER: Final = re.compile(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", re.IGNORECASE)
_ASK: Final = """
    SELECT current_setting('synchronous_standby_names'),
        pg_has_role('pg_read_all_stats', 'USAGE'),
        (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
"""


class Standbys(NamedTuple):
    """For how many standbys a commit waits, and how many are connected of those that count.

    `connected` is None where this user may not see it.
    """

    awaited: int
    connected: int | None

    @property
    def copies(self) -> int:
        """How many standbys have a message, at least, when its commit has returned."""
        return self.awaited if self.connected is None else min(self.awaited, self.connected)

    def lack(self, wanted: int) -> str:
        """Return in words why messages are not on as many standbys as wanted; empty: they are."""
        if self.awaited < wanted:
            waits = f"for {self.awaited}" if self.awaited else "for none"
            return f"{wanted} synchronous copies are wanted, and the server waits {waits}"
        if wanted and self.copies < self.awaited:
            return (
                f"the server waits for {self.awaited} synchronous copies, and {self.connected} "
                "are connected"
            )
        return ""


def look(connection: Any) -> Standbys:
    """Return how it is now."""
    names, is_shown, connected = connection.execute(_ASK).fetchone()
    return Standbys(awaited(names), int(connected) if is_shown else None)


def awaited(names: str) -> int:
    """Return for how many standbys commits wait, as `synchronous_standby_names` says it."""
    if not names.strip():
        return 0
    found = _NUMBER.match(names)
    return int(found[1]) if found else 1


def require(connection: Any, wanted: int, place: str) -> None:
    """Raise FewCopiesError unless messages are on as many standbys as wanted."""
    if wanted and (lack := look(connection).lack(wanted)):
        raise FewCopiesError(f"{place}: {lack}")
