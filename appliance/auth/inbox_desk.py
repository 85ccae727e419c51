"""The inbox desk makes inbox addresses and revokes them; each change counts when its call returns.

The secret in an address is shown once, when it is made: only its hash is kept.
"""

import secrets as random_secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from appliance.auth import inbox_settings
from appliance.auth.snapshot import hashed
from appliance.model import grants, timestamps
from appliance.model.topics import check_topic
from appliance.store.access_rows import Actor, Deed, InboxRow
from appliance.store.base import Access

#: Bytes of the secret in an address.
_SECRET_BYTES: Final = 32


class InboxDesk:
    """Used by any thread. `refresh` makes the API go by what was written."""

    def __init__(self, access: Access, refresh: Callable[[], None]) -> None:
        self._access = access
        self._refresh = refresh

    def create(
        self,
        topic: str,
        kind: str,
        by: Actor,
        *,
        name: str | None = None,
        secrets: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[InboxRow, str]:
        """Make an inbox; return it with the secret in its address, which is kept nowhere.

        `secrets` are those with which its sender signs. Raises InputError for a malformed value,
        ExistsError, LimitError, StoreError.
        """
        topic, all_settings = check_topic(topic), dict(settings or {})
        rules = inbox_settings.rules(kind, all_settings)
        signing = rules.check_secrets(tuple(secrets))
        inbox = InboxRow(
            name=grants.check_name(topic[: grants.MAX_NAME] if name is None else name),
            topic=topic,
            kind=rules.kind.name,
            settings=all_settings,
            created_at=timestamps.now(),
        )
        secret, digest = new_secret()
        deed = Deed(by, "inbox-create", inbox.name, f"{inbox.kind} into {inbox.topic}")
        self._access.create_inbox(inbox, digest, signing, deed)
        self._refresh()
        return self._access.inbox(inbox.name) or inbox, secret

    def revoke(self, name: str, by: Actor) -> bool:
        """Revoke an inbox with all its addresses; return whether there was one."""
        found = self._access.revoke_inbox(name, Deed(by, "inbox-revoke", name))
        if found:
            self._refresh()
        return found


def new_secret() -> tuple[str, bytes]:
    """Return a new secret for an address, and its hash."""
    secret = random_secrets.token_urlsafe(_SECRET_BYTES)
    return secret, hashed(secret.encode())
