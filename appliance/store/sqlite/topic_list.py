"""The list of topics in any order, page by page: for people, who sort by what they look for."""

import json
from typing import Any, Final

from appliance.store.rows import Topic, TopicChoice
from appliance.store.sqlite import where_sql

#: What can be sorted by -> its column.
_COLUMNS: Final = {
    "topic": "topic",
    "messages": "messages",
    "bytes": "bytes",
    "last": "last_at",
}


def topic_list(connection: Any, choice: TopicChoice, limit: int) -> list[Topic]:
    """Return up to `limit` topics of the choice, in its order."""
    column = _COLUMNS[choice.sort]
    order, beyond = ("DESC", "<") if choice.descending else ("ASC", ">")
    patterns = None if choice.patterns is None else json.dumps(list(choice.patterns))
    values: dict[str, Any] = {
        "topics": None,
        "patterns": patterns,
        "part": choice.part,
        "limit": limit,
    }
    where = [where_sql.TOPIC, "instr(topic, :part) > 0"]
    if choice.after is not None:
        values["value"], values["topic"] = choice.after
        where.append(f"({column} {beyond} :value OR {column} = :value AND topic > :topic)")
    query = (
        "SELECT topic, messages, bytes, first_at, last_at FROM topics "  # noqa: S608  # ours
        f"WHERE {' AND '.join(where)} ORDER BY {column} {order}, topic LIMIT :limit"
    )
    return [Topic._make(row) for row in connection.execute(query, values)]
