"""The tables as storing needs them: its statements, and whether the database takes rows by them."""

import uuid
from collections.abc import Sequence
from typing import Any, Final

from appliance.errors import TablesError
from appliance.model.timestamps import now
from appliance.store.sql import handler_tables, ledger_table
from appliance.store.sql.message_rows import Row
from appliance.store.sql.message_tables import ADD_TO_TOPIC, count_since
from appliance.store.sqlite import expiry, refusal
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.sql_words import WORDS

#: Most messages have no content type and no meta. Python's sqlite3 looks for an adapter each time
#: that it binds None, which took 0.9 us: more than half of what the row costs. So they are bound
#: as empty texts, which neither can be.
INSERT: Final = """
    INSERT INTO messages (id, topic, body, received_at, content_type, meta)
    VALUES (?, ?, ?, ?, nullif(?, ''), nullif(?, ''))
    ON CONFLICT (id) DO NOTHING
"""
#: SQLite splits the batch itself, so that Python does nothing for a line. A value that is no string
#: becomes NULL; the table refuses that, and with it the whole envelope.
INSERT_LINES: Final = """
    INSERT INTO messages (id, topic, body, received_at, content_type, meta)
    SELECT ? || printf('%08x', key + ?), ?, CASE type WHEN 'text' THEN value END, ?, ?, ?
    FROM json_each(?) WHERE true
    ON CONFLICT (id) DO NOTHING
"""
INSERT_DEAD: Final = """
    INSERT INTO dead_letters (
        id, topic, body, reason, error, received_at, dead_at, content_type, meta
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id, reason, body) DO UPDATE SET dead_at = excluded.dead_at
"""
#: What storing needs of the tables.
_STATEMENTS: Final = (
    INSERT, INSERT_LINES, INSERT_DEAD, ADD_TO_TOPIC, count_since(WORDS), expiry.ADD,
    *ledger_table.STATEMENTS, *handler_tables.statements(WORDS),
)  # fmt: skip
#: Newest rows, and topics, with which the database is tried.
_NEWEST: Final = 3
#: No client can send to it: its name is not a topic's.
_NOBODYS_TOPIC: Final = "_probe"


def check_tables(connection: Any) -> None:
    """Raise TablesError where a statement that storing needs can't even be compiled."""
    if error := refusal.compile_error(connection, *_STATEMENTS):
        raise TablesError(f"the tables are not as they must be: {error}")


def takes_a_row(connection: Any, topics: Sequence[str]) -> bool:
    """Whether the database takes any row; none is left behind. No transaction may be open.

    It is offered rows of these topics, of topics that it took lately, and of a topic that nobody
    uses; with bodies that it took lately, and with others.
    """
    newest = connection.execute(
        "SELECT topic, body, content_type, meta FROM messages ORDER BY seq DESC LIMIT ?", (_NEWEST,)
    ).fetchall()
    names = list(dict.fromkeys([*topics[:_NEWEST], *(row[0] for row in newest), _NOBODYS_TOPIC]))
    nonce = uuid.uuid4().hex
    kinds = [(f'{{"probe":"{nonce}"}}', "application/json", "{}"), (nonce, "", "")]
    kinds += [(body, content_type or "", meta or "") for _, body, content_type, meta in newest]
    for body, content_type, meta in kinds:
        for topic in names:
            row = (str(uuid.uuid4()), topic, body, now(), content_type, meta)
            if _takes(connection, row):
                return True
    return False


def _takes(connection: Any, row: Row) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        return bool(connection.execute(INSERT, row).rowcount == 1)
    except sqlite3.Error as error:
        if not refusal.is_of_values(error):
            raise
        return False
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
