"""Tokens, inbox addresses and the audit trail: a change and its entry are one transaction.

The API is the only writer. Whatever decides who may do what is read whole, and again only when the
version has changed, which triggers count: so a change by SQL is seen too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.errors import ExistsError, LimitError
from appliance.model import timestamps
from appliance.store.access_rows import (
    AccessRows,
    AuditEntry,
    Deed,
    InboxKey,
    InboxRow,
    SessionRow,
    SigningSecret,
    TokenKey,
    TokenRow,
)
from appliance.store.rows import Span
from appliance.store.sql import audit_table, sessions
from appliance.store.sql.database import SqlConnection, SqlDatabase
from appliance.store.sql.schemas import schema_rows

#: Tokens, inboxes, and secrets of one inbox: all of them are held in memory.
MAX_NAMES: Final = 10_000
MAX_SECRETS: Final = 10

#: The name by which the transactions keep each other out.
_ALONE: Final = "access"

_TOKEN: Final = "name, rights, topics, rate, created_at, expires_at, last_used_at"  # noqa: S105


class StoredAccess:
    """Reads and writes in short transactions; of those that change who may do what, one at a time.

    Whether a name is free, and how many there are, still holds then when the change is committed.
    """

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    # --- for whoever decides on requests

    def version(self) -> int:
        """Return a number that is another one after every change."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT version FROM access_version").fetchone()[0])

    def rows(self) -> AccessRows:
        """Return everything that decides who may do what, as one read sees it."""
        with self._database.snapshot() as connection:
            version = connection.execute("SELECT version FROM access_version").fetchone()[0]
            tokens = [
                TokenKey(row[0], _token(row[1:]))
                for row in connection.execute(f"SELECT digest, {_TOKEN} FROM tokens")  # noqa: S608  # ours
            ]
            inboxes = {inbox.name: inbox for inbox in _inboxes(connection)}
            keys = [
                InboxKey(digest, inboxes[name], expires_at)
                for digest, name, expires_at in connection.execute(
                    "SELECT digest, inbox, expires_at FROM inbox_secrets"
                )
                if name in inboxes
            ]
            schemas = schema_rows(connection)
            signed_in = sessions.session_rows(connection)
        return AccessRows(int(version), tokens, keys, schemas, signed_in)

    def note_uses(self, tokens: Mapping[str, str], inboxes: Mapping[str, str]) -> None:
        """Note when tokens and inboxes were last used, by name; a power cut can undo it."""
        with self._database.writing(synced=False) as connection:
            for table, uses in (("tokens", tokens), ("inboxes", inboxes)):
                connection.executemany(
                    f"UPDATE {table} SET last_used_at = ? WHERE name = ?",  # noqa: S608  # ours
                    [(at, name) for name, at in sorted(uses.items())],
                )

    # --- tokens

    def tokens(self) -> list[TokenRow]:
        """Return all tokens by name."""
        with self._database.reading() as connection:
            query = f"SELECT {_TOKEN} FROM tokens ORDER BY name"  # noqa: S608  # ours
            return [_token(row) for row in connection.execute(query)]

    def create_token(self, token: TokenRow, digest: bytes, deed: Deed) -> None:
        """Add a token. Raises ExistsError, LimitError."""
        with self._database.writing(alone=_ALONE) as connection:
            _make_room(connection, "tokens", token.name)
            connection.execute(
                f"INSERT INTO tokens (digest, {_TOKEN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    digest, token.name, json.dumps(token.rights), json.dumps(token.topics),
                    token.rate, token.created_at, token.expires_at, token.last_used_at,
                ),
            )  # fmt: skip
            audit_table.write(connection, deed)

    def revoke_token(self, name: str, deed: Deed) -> bool:
        """Remove a token; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            gone = connection.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)

    # --- inbox addresses

    def inboxes(self) -> list[InboxRow]:
        """Return all inboxes by name."""
        with self._database.reading() as connection:
            return _inboxes(connection)

    def inbox(self, name: str) -> InboxRow | None:
        """Return the inbox with this name, or None."""
        with self._database.reading() as connection:
            found = _inboxes(connection, name)
        return found[0] if found else None

    def create_inbox(
        self, inbox: InboxRow, digest: bytes, signing_secrets: Sequence[str], deed: Deed
    ) -> None:
        """Add an inbox, and the secrets with which its senders sign.

        Raises ExistsError, LimitError.
        """
        if len(signing_secrets) > MAX_SECRETS:
            raise LimitError(f"an inbox has {MAX_SECRETS} signing secrets at most")
        with self._database.writing(alone=_ALONE) as connection:
            _make_room(connection, "inboxes", inbox.name)
            connection.execute(
                "INSERT INTO inboxes VALUES (?, ?, ?, ?, ?, ?)",
                (
                    inbox.name, inbox.topic, inbox.kind, json.dumps(inbox.settings),
                    inbox.created_at, inbox.last_used_at,
                ),
            )  # fmt: skip
            _add_secret(connection, inbox.name, digest)
            for secret in signing_secrets:
                _add_signing_secret(connection, inbox.name, secret)
            audit_table.write(connection, deed)

    def update_inbox(self, inbox: InboxRow, deed: Deed) -> bool:
        """Give the inbox of this name its topic, kind and settings; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            found = connection.execute(
                "UPDATE inboxes SET topic = ?, kind = ?, settings = ? WHERE name = ?",
                (inbox.topic, inbox.kind, json.dumps(inbox.settings), inbox.name),
            ).rowcount
            if found:
                audit_table.write(connection, deed)
        return bool(found)

    def rotate_inbox(self, name: str, digest: bytes, old_until: str, deed: Deed) -> bool:
        """Give an inbox a new secret; those before it count until `old_until` at most.

        Returns whether the inbox was there. Raises LimitError where many old ones still count.
        """
        with self._database.writing(alone=_ALONE) as connection:
            if not _has_inbox(connection, name):
                return False
            _end(connection, "inbox_secrets", name, old_until)
            _add_secret(connection, name, digest)
            audit_table.write(connection, deed)
        return True

    def revoke_inbox(self, name: str, deed: Deed) -> bool:
        """Remove an inbox with all its secrets; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            gone = connection.execute("DELETE FROM inboxes WHERE name = ?", (name,)).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)

    def add_signing_secret(
        self, name: str, secret: str, old_until: str | None, deed: Deed
    ) -> int | None:
        """Let an inbox take signatures made with `secret` too; return its id (None: no inbox).

        The secrets before it count until `old_until` at most; None: as they did. Raises LimitError.
        """
        with self._database.writing(alone=_ALONE) as connection:
            if not _has_inbox(connection, name):
                return None
            if old_until is not None:
                _end(connection, "inbox_signing_secrets", name, old_until)
            number = _add_signing_secret(connection, name, secret)
            audit_table.write(connection, deed)
        return number

    def remove_signing_secret(self, name: str, secret_id: int, deed: Deed) -> bool:
        """Let an inbox take no signatures made with this secret; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            gone = connection.execute(
                "DELETE FROM inbox_signing_secrets WHERE inbox = ? AND id = ?", (name, secret_id)
            ).rowcount
            if gone:
                audit_table.write(connection, deed)
        return bool(gone)

    # --- sessions of the console

    def sessions(self) -> list[SessionRow]:
        """Return the console's sessions, the one that was used last first."""
        with self._database.reading() as connection:
            return sessions.session_rows(connection)

    def create_session(self, session: SessionRow, deed: Deed) -> None:
        """Add a session; those that have ended, and the ones longest unused of too many, go."""
        with self._database.writing(alone=_ALONE) as connection:
            sessions.add(connection, session)
            audit_table.write(connection, deed)

    def extend_sessions(self, ends: Mapping[bytes, tuple[str, str]]) -> None:
        """Note of sessions, by digest, when they were used and until when they count now."""
        with self._database.writing(synced=False, alone=_ALONE) as connection:
            sessions.extend(connection, ends)

    def end_session(self, digest: bytes, deed: Deed) -> bool:
        """Remove a session; return whether it was there."""
        with self._database.writing(alone=_ALONE) as connection:
            was_there = sessions.remove(connection, digest)
            if was_there:
                audit_table.write(connection, deed)
        return was_there

    # --- the audit trail

    def record(self, deed: Deed) -> None:
        """Add an entry for what is not done in this database."""
        with self._database.writing() as connection:
            audit_table.write(connection, deed)

    def redrives(self, message_id: str, limit: int) -> list[AuditEntry]:
        """Return the newest entries of letters that were sent again as this message."""
        with self._database.reading() as connection:
            return audit_table.redrives(connection, message_id, limit)

    def audit(self, span: Span, limit: int) -> list[AuditEntry]:
        """Return up to `limit` entries of a span; newest first, with `after` oldest first."""
        with self._database.reading() as connection:
            return audit_table.entries(connection, span, limit)


def _token(row: Sequence[Any]) -> TokenRow:
    name, rights, topics, *others = row
    return TokenRow(name, tuple(_read(rights, [])), tuple(_read(topics, [])), *others)


def _read(text: str, empty: Any) -> Any:
    """Return JSON of the type of `empty`, which stands for what someone broke by SQL."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        return empty
    return value if isinstance(value, type(empty)) else empty


def _inboxes(connection: SqlConnection, name: str | None = None) -> list[InboxRow]:
    """Return the inboxes by name, or the one with this name."""
    values = {"name": name, "now": timestamps.now()}
    signing: dict[str, list[SigningSecret]] = {}
    for inbox, *secret in connection.execute(
        "SELECT inbox, id, secret, created_at, expires_at FROM inbox_signing_secrets "
        "WHERE :name IS NULL OR inbox = :name ORDER BY id",
        values,
    ):
        signing.setdefault(inbox, []).append(SigningSecret._make(secret))
    rows = connection.execute(
        "SELECT name, topic, kind, settings, created_at, last_used_at, "
        "(SELECT count(*) FROM inbox_secrets "
        "WHERE inbox = name AND (expires_at IS NULL OR expires_at > :now)) "
        "FROM inboxes WHERE :name IS NULL OR name = :name ORDER BY name",
        values,
    )
    return [
        InboxRow(
            name=row[0],
            topic=row[1],
            kind=row[2],
            settings=_read(row[3], {}),
            created_at=row[4],
            last_used_at=row[5],
            addresses=row[6],
            signing_secrets=tuple(signing.get(row[0], ())),
        )
        for row in rows
    ]


def _make_room(connection: SqlConnection, table: str, name: str) -> None:
    """Raise where the name is taken, or there are too many."""
    query = f"SELECT count(*), count(*) FILTER (WHERE name = ?) FROM {table}"  # noqa: S608  # ours
    count, same = connection.execute(query, (name,)).fetchone()
    if same:
        raise ExistsError(
            f"there is one with the name {name} already; revoke it, or choose another"
        )
    if count >= MAX_NAMES:
        raise LimitError(f"there are {count} {table} already; revoke some that nobody uses")


def _has_inbox(connection: SqlConnection, name: str) -> bool:
    query = "SELECT 1 FROM inboxes WHERE name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _add_secret(connection: SqlConnection, inbox: str, digest: bytes) -> None:
    _drop_expired(connection, "inbox_secrets", inbox)
    connection.execute(
        "INSERT INTO inbox_secrets VALUES (?, ?, ?, NULL)", (digest, inbox, timestamps.now())
    )


def _add_signing_secret(connection: SqlConnection, inbox: str, secret: str) -> int:
    _drop_expired(connection, "inbox_signing_secrets", inbox)
    return int(
        connection.execute(
            "INSERT INTO inbox_signing_secrets (inbox, secret, created_at) VALUES (?, ?, ?) "
            "RETURNING id",
            (inbox, secret, timestamps.now()),
        ).fetchone()[0]
    )


def _drop_expired(connection: SqlConnection, table: str, inbox: str) -> None:
    """Make room for one more. Raises LimitError where all of them still count."""
    connection.execute(
        f"DELETE FROM {table} WHERE inbox = ? AND expires_at <= ?",  # noqa: S608  # ours
        (inbox, timestamps.now()),
    )
    query = f"SELECT count(*) FROM {table} WHERE inbox = ?"  # noqa: S608  # ours
    if connection.execute(query, (inbox,)).fetchone()[0] >= MAX_SECRETS:
        raise LimitError(f"{MAX_SECRETS} secrets of {inbox} still count; end some of them first")


def _end(connection: SqlConnection, table: str, inbox: str, until: str) -> None:
    """Let the inbox's secrets count until then at most."""
    connection.execute(
        f"UPDATE {table} SET expires_at = ? "  # noqa: S608  # ours
        "WHERE inbox = ? AND (expires_at IS NULL OR expires_at > ?)",
        (until, inbox, until),
    )
