"""The access snapshot: all tokens and inbox addresses that count at one moment. Immutable.

Tokens and inboxes are found by the SHA-256 of their secret, so a look-up takes the same time
whatever the secret is: who guesses can't choose the hash of a guess.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Self

from appliance.auth.principal import Principal, Right
from appliance.errors import InputError
from appliance.model import grants
from appliance.store.access_rows import AccessRows, InboxRow, SchemaRow, SessionRow, TokenRow


@dataclass(frozen=True, slots=True)
class Inbox:
    """An inbox address that counts now.

    `signing_secrets` are those that count now, the newest first. `settings` is what the inbox's
    kind reads: a JSON object, whose members each have a default.
    """

    name: str
    topic: str
    kind: str
    settings: Mapping[str, Any]
    signing_secrets: tuple[str, ...]
    #: who publishes by this address: it has one right, for one topic
    principal: Principal


@dataclass(frozen=True, slots=True)
class AccessSnapshot:
    """Whoever counted when it was made, which is until `ends_at` (Unix time)."""

    version: int
    made_at: float
    ends_at: float
    tokens: Mapping[bytes, Principal]
    inboxes: Mapping[bytes, Inbox]
    #: the present principals of tokens and inboxes, for whoever has one of an earlier snapshot
    principals: frozenset[Principal]
    #: JSON Schemas by topic; they are decided by in the same way
    schemas: Mapping[str, SchemaRow]
    #: sessions of the console that count, by the SHA-256 of the secret in the cookie
    sessions: Mapping[bytes, SessionRow]

    @classmethod
    def of(cls, rows: AccessRows, now: float) -> Self:
        """Return what the rows say at the time `now`."""
        ends = [math.inf]
        tokens = {
            key.digest: _token_principal(key.token)
            for key in rows.tokens
            if _counts(key.token.expires_at, now, ends)
        }
        made: dict[str, Inbox] = {}
        inboxes = {}
        for key in rows.inboxes:
            if _counts(key.expires_at, now, ends):
                name = key.inbox.name
                if name not in made:
                    made[name] = _inbox(key.inbox, now, ends)
                inboxes[key.digest] = made[name]
        principals = frozenset([*tokens.values(), *(each.principal for each in made.values())])
        return cls(
            rows.version, now, min(ends),
            MappingProxyType(tokens), MappingProxyType(inboxes), principals,
            MappingProxyType({row.topic: row for row in rows.schemas}),
            MappingProxyType({
                row.digest: row for row in rows.sessions if _counts(row.expires_at, now, ends)
            }),
        )  # fmt: skip

    def holds_at(self, now: float) -> bool:
        """Whether it still says who counts; not after something ended, or the clock went back."""
        return self.made_at <= now < self.ends_at

    def token(self, secret: bytes) -> Principal | None:
        """Return who has this token; None for nobody."""
        return self.tokens.get(hashed(secret))

    def inbox(self, secret: bytes) -> Inbox | None:
        """Return the inbox with this secret in its address; None for none."""
        return self.inboxes.get(hashed(secret))


#: Nobody but the administrator.
EMPTY: Final = AccessSnapshot.of(AccessRows(0, [], []), 0.0)


def hashed(secret: bytes) -> bytes:
    """Return what is kept of a token, or of the secret in an address: its SHA-256."""
    return hashlib.sha256(secret).digest()


def unix_time(time: str) -> float:
    """Return a time of the store as Unix time."""
    return datetime.fromisoformat(time).timestamp()


def _counts(expires_at: str | None, now: float, ends: list[float]) -> bool:
    """Whether what ends at this time counts at `now`; then the time is added to `ends`."""
    if expires_at is None:
        return True
    try:
        end = unix_time(expires_at)
    except (ValueError, OverflowError):
        return False  # someone wrote it by SQL: who can't say when it ends gets nothing
    if end > now:
        ends.append(end)
    return end > now


def _token_principal(token: TokenRow) -> Principal:
    rights = frozenset(Right(word) for word in token.rights if word in grants.RIGHTS)
    try:
        rate = grants.rate(token.rate) if token.rate else None
    except InputError:
        rights, rate = frozenset(), None  # written by SQL: better nothing than no limit
    return Principal(token.name, rights, token.topics, rate)


def _inbox(row: InboxRow, now: float, ends: list[float]) -> Inbox:
    secrets = [
        each.secret for each in reversed(row.signing_secrets) if _counts(each.expires_at, now, ends)
    ]
    principal = Principal(
        f"inbox {row.name}", frozenset({Right.PUBLISH}), (row.topic,), _inbox_rate(row.settings)
    )
    settings = MappingProxyType(row.settings)
    return Inbox(row.name, row.topic, row.kind, settings, tuple(secrets), principal)


def _inbox_rate(settings: Mapping[str, Any]) -> grants.Rate | None:
    text = settings.get("rate")
    try:
        return grants.rate(text) if isinstance(text, str) else None
    except InputError:
        return None  # written by SQL; whoever reads the settings refuses all of them
