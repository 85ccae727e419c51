"""Leases that a damaged database can't show any more: their messages are handed out again.

Below a subscription's place a message without a row of `leases` counts as acknowledged. So a row
that is lost would be a message that nobody gets. An index has a copy of nearly all of each row; and
where that is damaged too, the place goes back to the first row that is lost. Messages then come
again that were acknowledged: at least once is the promise.
"""

from typing import Any, Final

from appliance.store.sqlite.database import sqlite3

_FROM_INDEX: Final = """
    SELECT seq, subscription, state, until FROM leases INDEXED BY leases_due
    ORDER BY subscription, state, until
"""
_ADD: Final = """
    INSERT OR IGNORE INTO leases (seq, subscription, state, attempt, until, lease, reason)
    SELECT :seq, :subscription, :state, 1, :until, '', 'its row was lost, and rescued from an index'
    WHERE EXISTS (SELECT 1 FROM subscriptions WHERE number = :subscription)
"""
_STATES: Final = frozenset({"leased", "waiting", "dead"})


def mend_leases(old: Any, new: Any, reached: int) -> bool:
    """Add what the copy lacks; `reached` is the last `seq` that was read from the beginning.

    Returns whether each row was found. Raises sqlite3.Error where the copy can't be written.
    """
    try:
        rows = old.execute(_FROM_INDEX).fetchall()
    except sqlite3.Error:
        rows = None
    if rows is not None and all(_is_sound(*row) for row in rows):
        names = ("seq", "subscription", "state", "until")
        new.executemany(_ADD, [dict(zip(names, row, strict=True)) for row in rows])
        return True
    place = max(reached - 1, 0)  # others of the last one's message may be lost
    new.execute("DELETE FROM leases WHERE seq > ?", (place,))
    new.execute("UPDATE subscriptions SET cursor = min(cursor, ?)", (place,))
    return False


def _is_sound(seq: object, subscription: object, state: object, until: object) -> bool:
    numbers = all(isinstance(each, int) for each in (seq, subscription, until))
    return numbers and isinstance(state, str) and state in _STATES
