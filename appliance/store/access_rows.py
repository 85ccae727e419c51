"""Rows of tokens, of inbox addresses and of the audit trail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Actor(NamedTuple):
    """Who asks for a change: a principal's name, which holds no secret, and a client's address."""

    name: str
    address: str


class Deed(NamedTuple):
    """What an administrator does, for the audit trail.

    `action` is a stable word such as `token-create`, `target` names what it is done to, `details`
    is a text for people; none of them holds a secret.
    """

    by: Actor
    action: str
    target: str
    details: str = ""


class AuditEntry(NamedTuple):
    """One line of the audit trail."""

    seq: int
    at: str
    who: str
    address: str
    action: str
    target: str
    details: str


class TokenRow(NamedTuple):
    """A token but for its secret, which nobody keeps.

    `rights` are words such as `publish`, `topics` patterns, `rate` a text such as `100/m` (None:
    no limit). A time is None where there is none: it never expires, it was never used.
    """

    name: str
    rights: tuple[str, ...]
    topics: tuple[str, ...]
    rate: str | None
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None


class SigningSecret(NamedTuple):
    """A secret with which a sender signs; readable, because its signatures are computed anew.

    `id` names it within its inbox. It counts until `expires_at` (None: until it is removed).
    """

    id: int
    secret: str
    created_at: str
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """An inbox address, but for the secret in it, which nobody keeps.

    `kind` is a word such as `github`. `settings` is a JSON object, for its kind to read.
    """

    name: str
    topic: str
    kind: str
    settings: dict[str, Any]
    created_at: str
    last_used_at: str | None = None
    #: how many secrets lead here now: two while an older one still counts
    addresses: int = 1
    signing_secrets: tuple[SigningSecret, ...] = ()


class TokenKey(NamedTuple):
    """A token and the SHA-256 of its secret."""

    digest: bytes
    token: TokenRow


class InboxKey(NamedTuple):
    """The SHA-256 of a secret, the inbox that it leads to, and when it ends to (None: never)."""

    digest: bytes
    inbox: InboxRow
    expires_at: str | None


class SchemaRow(NamedTuple):
    """A topic's JSON Schema, as JSON text; `mode` says what is done with what it does not allow."""

    topic: str
    mode: str
    schema: str
    changed_at: str


class SessionRow(NamedTuple):
    """Someone who signed in to the console with a token, and has its rights.

    `digest` and `token` are the SHA-256 of the secret in the cookie, and of the token. `name` is
    the principal's, `address` and `agent` are the browser's: its address, and what it calls itself.
    """

    digest: bytes
    token: bytes
    name: str
    address: str
    agent: str
    created_at: str
    expires_at: str
    last_used_at: str


class AccessRows(NamedTuple):
    """Everything that decides who may do what, as one read saw it.

    What has expired is in it too: whoever uses it looks at the clock.
    """

    version: int
    tokens: list[TokenKey]
    inboxes: list[InboxKey]
    schemas: Sequence[SchemaRow] = ()
    sessions: Sequence[SessionRow] = ()
