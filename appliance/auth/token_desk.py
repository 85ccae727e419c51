"""The token desk makes tokens and revokes them; each change counts when its call returns."""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

from appliance.auth.snapshot import hashed
from appliance.model import grants, timestamps
from appliance.store.access_rows import Actor, Deed, TokenRow
from appliance.store.base import Access

#: Begins every token that is made here, so that people and scanners know one where they see it.
_PREFIX: Final = "qa_"
#: 256 bits: out of reach of guessing.
_SECRET_BYTES: Final = 32


class TokenDesk:
    """Used by any thread. `refresh` makes the API go by what was written."""

    def __init__(self, access: Access, refresh: Callable[[], None]) -> None:
        self._access = access
        self._refresh = refresh

    def list_tokens(self) -> list[TokenRow]:
        """Return all tokens by name. Raises StoreError."""
        return self._access.tokens()

    def create(
        self,
        name: str,
        rights: Sequence[str],
        by: Actor,
        *,
        topics: Sequence[str] = (),
        expires: str | None = None,
        rate: str | None = None,
    ) -> tuple[TokenRow, str]:
        """Make a token; return it with its secret, which is kept nowhere and shown this once.

        Raises InputError for a malformed value, ExistsError, LimitError, StoreError.
        """
        now = time.time()
        wanted = grants.check_rights(rights)
        if rate is not None:
            grants.rate(rate)
        token = TokenRow(
            name=grants.check_name(name),
            rights=wanted,
            topics=grants.check_patterns(topics, wanted),
            rate=rate,
            created_at=timestamps.timestamp(now),
            expires_at=None if expires is None else grants.end(expires, now),
        )
        secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        details = f"{', '.join(token.rights)} for {', '.join(token.topics)}"
        self._access.create_token(
            token, hashed(secret.encode()), Deed(by, "token-create", token.name, details)
        )
        self._refresh()
        return token, secret

    def revoke(self, name: str, by: Actor) -> bool:
        """Revoke a token; return whether there was one. Raises StoreError."""
        found = self._access.revoke_token(name, Deed(by, "token-revoke", name))
        if found:
            self._refresh()
        return found
