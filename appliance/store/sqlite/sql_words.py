"""SQLite's words where the engines have no common SQL."""

from typing import Final

from appliance.store.sql.database import SqlWords
from appliance.store.sqlite import where_sql

#: Bytes of a body that is looked through to see whether it is JSON; of a longer one its first
#: character counts.
_JSON_BYTES: Final = 64 * 2**10
#: Characters of a body's begin.
_START: Final = 200
_NOW: Final = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"

WORDS: Final = SqlWords(
    # A pattern has no character but `*` that means something to GLOB.
    matches=(
        "(:patterns IS NULL OR EXISTS "
        "(SELECT 1 FROM json_each(:patterns) AS pattern WHERE topic GLOB pattern.value))"
    ),
    matched=(
        "EXISTS (SELECT 1 FROM "
        "json_each(CASE WHEN json_valid({1}) THEN {1} ELSE '[]' END) AS pattern "
        "WHERE {0} GLOB pattern.value)"
    ),
    body="typeof(body) = 'text', CAST(body AS BLOB)",
    body_bytes="octet_length(body)",
    body_pair="body, NULL",
    body_names="body",
    body_marks="?",
    letter_body="CAST(body AS BLOB)",
    now=_NOW,
    texts="SELECT value FROM json_each({})",
    numbers="SELECT value FROM json_each({})",
    is_not_over=(
        "NOT EXISTS (SELECT 1 FROM expirations AS over "  # noqa: S608  # ours
        f"WHERE over.seq = messages.seq AND over.expires_at <= {_NOW})"
    ),
    data_version="PRAGMA data_version",
    last_seq="coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0)",
    by_seq="messages NOT INDEXED",
    by_topic="messages INDEXED BY messages_topic",
    # The begin of a text is cut by characters, and that of anything else by bytes.
    preview=(
        "CASE WHEN typeof(body) <> 'text' THEN 'binary' "
        f"WHEN length(CAST(body AS BLOB)) > {_JSON_BYTES} THEN "
        "iif(substr(body, 1, 1) IN ('{', '['), 'json', 'text') "
        "WHEN json_valid(body) THEN 'json' ELSE 'text' END, "
        f"length(CAST(body AS BLOB)), CAST(substr(body, 1, {_START}) AS BLOB)"
    ),
    # Rows come one by one, as they are asked for.
    page="SELECT {columns} FROM {source} WHERE {where} ORDER BY {order} LIMIT :limit",
    conditions=where_sql.of_filter,
)
