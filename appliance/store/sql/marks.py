"""Marks: the place in the order of storing that belongs to a time, found by a binary search.

Times have no index of their own: it would slow down every insertion, and times nearly follow `seq`.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from appliance.model import timestamps

#: The most by which the order of `received_at` differs from that of `seq`: longer than any message
#: waits between being received and being put into the queue.
DISORDER: Final = timedelta(minutes=10)


def last_before(connection: Any, time: str, distance: timedelta) -> int:
    """Return the `seq` of the last message that was received before `time` + `distance`.

    Where the two orders differ by at most DISORDER, all messages stored before one that was
    received before `time - DISORDER` were received before `time`; and all that are stored after
    the last one that was received before `time + DISORDER` were not.
    """
    moved = datetime.fromisoformat(time).timestamp() + distance.total_seconds()
    bound = timestamps.timestamp(min(max(0.0, moved), timestamps.LAST_SECOND))
    low, high = connection.execute(
        "SELECT (SELECT min(seq) FROM messages), (SELECT max(seq) FROM messages)"
    ).fetchone()
    if low is None:
        return 0
    low, high = low - 1, high + 1  # received before the bound; received later, or no row
    while high - low > 1:
        middle = (low + high) // 2
        # Deleted rows leave gaps: take the next row that exists.
        seq, received_at = connection.execute(
            "SELECT seq, received_at FROM messages WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone() or (high, bound)
        if received_at < bound:
            low = seq
        else:
            high = middle
    return int(low)
