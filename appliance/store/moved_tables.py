"""The tables whose rows go along where messages move to a database of another engine.

A test compares this with the schemas of all engines: a table that is new must be here, or among
those that stay.
"""

from typing import Final, NamedTuple


class MovedTable(NamedTuple):
    """A table that every engine has, with the columns that are not computed from others."""

    name: str
    columns: tuple[str, ...]
    #: By which its rows have one order in every engine.
    key: tuple[str, ...]
    #: Whether the key is a number that is never used again, not even of a row that is gone.
    is_numbered: bool = False

    @property
    def is_mixed(self) -> bool:
        """Whether a body is a text in it where it is one, and bytes where it is not."""
        return "body" in self.columns and self.name != "dead_letters"


def _table(name: str, columns: str, key: str = "") -> MovedTable:
    names = tuple(columns.split())
    return MovedTable(name, names, tuple(key.split()) or names[:1])


def _numbered(name: str, columns: str) -> MovedTable:
    return _table(name, columns)._replace(is_numbered=True)


#: In the order in which they are filled: what others refer to comes before these, and the version
#: of all rights, which grows with each of them, at last.
MOVED: Final = (
    _numbered("messages", "seq id topic body received_at content_type meta"),
    _table("topics", "topic messages bytes first_at last_at"),
    _numbered(
        "dead_letters",
        "seq id topic body reason error received_at dead_at content_type meta",
    ),
    _table("quarantine_losses", "cause letters bytes last_at"),
    _table("sources", "source accounted settled not_kept missing accepted first_at last_at"),
    _table("expirations", "seq expires_at"),
    _numbered(
        "delayed_messages",
        "seq id topic body content_type meta accepted_at due_at cancelled_at",
    ),
    _numbered("audit", "seq at who address action target details"),
    _numbered(
        "deletions",
        "seq id selection asked_at who address until_seq reached messages bytes kept ended_at",
    ),
    _table(
        "history",
        "at seconds accepted stored refused dead waiting oldest_seconds p50_seconds p99_seconds "
        "disk_free_bytes",
    ),
    _numbered(
        "subscriptions",
        "number name topics lease_seconds most_attempts created_at cursor acknowledged gone "
        "redelivered",
    ),
    _table("leases", "seq subscription state attempt until lease reason", "seq subscription"),
    _numbered(
        "endpoints",
        "id name url topics conditions settings state reason created_at changed_at cursor failures "
        "broken_at retry_at trouble delivered failed given_up gone delivered_at",
    ),
    _numbered("endpoint_secrets", "id endpoint header secret created_at expires_at"),
    _numbered(
        "deliveries_due",
        "id endpoint seq message_id topic state attempts first_at due_at status error replay",
    ),
    _table(
        "delivery_lanes",
        "endpoint topic cursor attempts first_at due_at error",
        "endpoint topic",
    ),
    _numbered(
        "deliveries",
        "id endpoint seq message_id topic attempt at took_ms status error answer",
    ),
    _numbered(
        "replays",
        "seq id endpoint target selection state reason after until cursor messages sent gone "
        "created_at changed_at ended_at who address",
    ),
    _table("replay_parts", "replay last count packed", "replay last"),
    _numbered(
        "handler_messages",
        "seq id topic body received_at content_type meta function attempts error holder due_at",
    ),
    _table("handled_messages", "id topic digest handled_at outcome results"),
    _table("tokens", "name digest rights topics rate created_at expires_at last_used_at"),
    _table("inboxes", "name topic kind settings created_at last_used_at"),
    _table("inbox_secrets", "digest inbox created_at expires_at"),
    _numbered("inbox_signing_secrets", "id inbox secret created_at expires_at"),
    _table("schemas", "topic mode schema changed_at"),
    _table("sessions", "digest token name address agent created_at expires_at last_used_at"),
    _table("access_version", "one version"),
)
#: The one that has a row from the beginning.
ACCESS_VERSION: Final = "access_version"

#: Tables that stay, and why.
STAYING: Final = {
    "_sqlite_migrations": "the schema's own list of changes",
    "schema_changes": "the schema's own list of changes",
    "shards": "the number of the last message, which goes along as that of `messages`",
    "restores": "backups that took the place of this very file",
    "search_identity": "of the full-text index, which the janitor makes anew",
    "search_changes": "of the full-text index",
    "search_words": "of the full-text index",
    "search_progress": "of the full-text index",
}
