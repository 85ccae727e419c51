"""Messages with an end: how every read leaves those out that are over.

`expirations` has a row for each message with `expires_at` in its meta, and no other message costs
anything. A message is over from its time on, whether or not it is deleted already: every reader
leaves it out by the condition that `hides` returns, and there is none while no message is over.
"""

from appliance.store.sql.database import SqlConnection, SqlWords


def hides(connection: SqlConnection, words: SqlWords) -> list[str]:
    """Return the conditions by which a read leaves out messages that are over; none, as a rule.

    They are for a query whose rows are those of `messages`, under that name.
    """
    query = f"SELECT 1 FROM expirations WHERE expires_at <= {words.now} LIMIT 1"  # noqa: S608  # ours
    return [words.is_not_over] if connection.execute(query).fetchone() else []
