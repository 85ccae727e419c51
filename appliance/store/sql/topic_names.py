"""The names of topics that have a row, in SQL that both engines know."""

from typing import Final

#: Makes `names`, whose `name` is that of each such topic, found by one search in the index for
#: each, and once NULL.
NAMES: Final = """
    WITH RECURSIVE names (name) AS (
        SELECT min(topic) FROM messages
        UNION ALL
        SELECT (SELECT min(topic) FROM messages WHERE topic > name) FROM names
        WHERE name IS NOT NULL
    )
"""
