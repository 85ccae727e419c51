"""The bounds of a query of somebody's own for numbers of messages, on every engine."""

import re
from typing import Final

from appliance.errors import InputError

#: Numbers that a query may find.
MOST_FOUND: Final = 10_000_000
#: Characters of a query.
MAX_QUERY: Final = 10_000
#: Seconds that a query may take.
QUERY_SECONDS: Final = 10.0
#: Tables that nobody's query reads: they hold secrets, or say who may do what, and who did.
SECRET_TABLES: Final = frozenset({
    "audit", "endpoint_secrets", "endpoints", "inbox_secrets", "inbox_signing_secrets", "inboxes",
    "sessions", "tokens",
})  # fmt: skip
#: Ends the words about a query that is wrong.
EXAMPLE: Final = "write for example SELECT seq FROM messages WHERE topic = 'orders'"
#: How a query begins, behind comments.
_BEGIN: Final = re.compile(r"(?is)(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|with|values)\b")


def checked(sql: str) -> str:
    """Return a query without what can end it. Raises InputError for what is none at first sight."""
    text = sql.strip().rstrip(";")
    if len(sql) > MAX_QUERY:
        raise InputError(f"sql: expected at most {MAX_QUERY} characters")
    if not _BEGIN.match(text):
        raise InputError(
            "sql: expected one query that begins with SELECT or WITH, and changes nothing; "
            f"{EXAMPLE}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("sql: expected Unicode text") from error
    return text


def too_many() -> InputError:
    """Return what is said of a query that finds more than it may."""
    return InputError(
        f"sql: it finds more than {MOST_FOUND:,} messages; replay a part at a time, or select by "
        "topics, times and conditions, of which there can be any number"
    )


def too_slow(seconds: float) -> InputError:
    """Return what is said of a query that took longer than it may."""
    return InputError(
        f"sql: it took longer than {seconds:.0f} s and was ended; ask for fewer messages, such as "
        "with AND seq > 1000000 AND seq <= 2000000, make an index (appliance index), or select "
        "by topics, times and conditions, which may take any time"
    )
