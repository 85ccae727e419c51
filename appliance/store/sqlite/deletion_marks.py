"""Marks of deletions, as the writer's transaction takes them: one that fails stops nothing."""

from typing import Any

import structlog

from appliance.store.sql import deletion_table
from appliance.store.sqlite import refusal
from appliance.store.sqlite.database import sqlite3

_log: Any = structlog.get_logger(__name__)


def place(connection: Any, deletion_id: str) -> None:
    """Note that a deletion's mark came.

    A table that someone has changed must not stop the storing of messages.
    """
    try:
        deletion_table.place(connection, deletion_id)
    except sqlite3.Error as error:
        if not refusal.is_of_values(error) or not connection.in_transaction:
            raise
        _log.error("deletion impossible", deletion=deletion_id, error=str(error))
