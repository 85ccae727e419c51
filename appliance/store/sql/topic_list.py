"""The list of topics in any order, page by page: for people, who sort by what they look for."""

from typing import Any, Final

from appliance.store.rows import Topic, TopicChoice
from appliance.store.sql.database import SqlConnection, SqlWords
from appliance.store.sql.patterns import pattern_text

#: What can be sorted by -> its column.
_COLUMNS: Final = {
    "topic": "topic",
    "messages": "messages",
    "bytes": "bytes",
    "last": "last_at",
}


def topic_list(
    connection: SqlConnection, words: SqlWords, choice: TopicChoice, limit: int
) -> list[Topic]:
    """Return up to `limit` topics of the choice, in its order."""
    column = _COLUMNS[choice.sort]
    order, beyond = ("DESC", "<") if choice.descending else ("ASC", ">")
    values: dict[str, Any] = {
        "patterns": pattern_text(choice.patterns),
        "part": choice.part,
        "limit": limit,
    }
    where = [words.matches, "(:part = '' OR replace(topic, :part, '') <> topic)"]
    if choice.after is not None:
        values["value"], values["topic"] = choice.after
        where.append(f"({column} {beyond} :value OR {column} = :value AND topic > :topic)")
    query = (
        "SELECT topic, messages, bytes, first_at, last_at FROM topics "  # noqa: S608  # ours
        f"WHERE {' AND '.join(where)} ORDER BY {column} {order}, topic LIMIT :limit"
    )
    return [Topic._make(row) for row in connection.execute(query, values)]
