"""The endpoint desk makes, changes and steers endpoints; each change is checked whole, then stored.

A secret is returned once, by the call that makes it. The process that delivers sees a change within
a second.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from appliance.auth.signatures import standard
from appliance.errors import InputError
from appliance.machine import names, outward
from appliance.machine.outward import Network
from appliance.model import endpoint_settings, grants, timestamps
from appliance.model.endpoint_url import EndpointUrl
from appliance.operations.endpoint_trial import EndpointTrial, EndpointTried
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoint_rows import EndpointRow
from appliance.store.endpoints import Endpoints

#: For how long a secret still signs after a new one was made.
OLD_FOR: Final = "1d"
#: Messages that one call can name.
MOST_IDS: Final = 1000

#: Bytes of a signing secret: what Standard Webhooks asks for.
_SECRET_BYTES: Final = range(24, 65)
_MAX_REASON: Final = 200
_MAX_NUMBER: Final = 2**63 - 1


class Rotated(NamedTuple):
    """A new signing secret, its id, and until when those before it sign too."""

    id: int
    secret: str
    old_until: str


class EndpointDesk:
    """Used by any thread.

    `newest` returns the greatest `seq` that is stored. `listed` are the networks that may be
    reached although they are private. `record` adds an entry to the audit trail. Methods raise
    InputError for a malformed value, ExistsError, LimitError and StoreError as the store does.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        newest: Callable[[], int],
        listed: Sequence[Network],
        record: Callable[[Deed], None] = lambda _: None,
    ) -> None:
        self._record = record
        self._trial = EndpointTrial(listed)
        self._endpoints = endpoints
        self._newest = newest
        self._listed = listed

    def create(self, name: str, wish: Mapping[str, Any], by: Actor) -> tuple[EndpointRow, str]:
        """Make an endpoint; return it with the secret that its messages are signed with.

        `wish` has the members `url`, `topics`, `where`, `settings`, `own_headers`, `secret` and
        `from`; all but the first can be left out.
        """
        secret = _secret(wish.get("secret"))
        now = timestamps.now()
        endpoint = self._told(
            EndpointRow(
                name=grants.check_name(name), url="", topics=(), created_at=now, changed_at=now
            ),
            {"url": "", "topics": None, **wish},
        )
        headers = endpoint_settings.own_headers(wish.get("own_headers"))
        start = self._start(wish.get("from"))
        deed = Deed(by, "endpoint-create", endpoint.name, _words(endpoint))
        return self._endpoints.create(endpoint, [secret], headers, start, deed), secret

    def change(
        self, endpoint: EndpointRow, wish: Mapping[str, Any], by: Actor
    ) -> EndpointRow | None:
        """Change what `wish` has; return the endpoint, or None where it is gone by now.

        `settings` are merged, and null gives one its default; `own_headers` replace all of them.
        """
        changed = self._told(endpoint, wish)
        given = wish.get("own_headers")
        headers = None if given is None else endpoint_settings.own_headers(given)
        deed = Deed(by, "endpoint-update", changed.name, _words(changed))
        return self._endpoints.update(changed, headers, deed)

    def test(self, name: str, by: Actor) -> EndpointTried | None:
        """Send a test message now, paused or not; return how it was answered; None: no endpoint.

        Raises BusyError where other tests are under way.
        """
        outfit = self._endpoints.outfit(name)
        if outfit is None:
            return None
        self._record(Deed(by, "endpoint-test", name))
        return self._trial.send(outfit)

    def pause(self, name: str, reason: str, by: Actor) -> bool:
        """Let an endpoint get nothing until it is resumed; return whether it is there."""
        if len(reason) > _MAX_REASON or not reason.isprintable():
            raise InputError(f"reason: expected at most {_MAX_REASON} printable characters")
        reason = reason.strip() or f"by {by.name}"
        return self._endpoints.pause(name, reason, Deed(by, "endpoint-pause", name, reason))

    def resume(self, name: str, by: Actor) -> bool:
        """Let an endpoint get messages again; return whether it is there."""
        return self._endpoints.resume(name, Deed(by, "endpoint-resume", name))

    def remove(self, name: str, by: Actor) -> bool:
        """Remove an endpoint with all that waits for it; return whether it was there."""
        return self._endpoints.remove(name, Deed(by, "endpoint-remove", name))

    def rotate(
        self, name: str, by: Actor, secret: str | None = None, old_for: str = OLD_FOR
    ) -> Rotated | None:
        """Sign with another secret, made or given; return it, or None: no such endpoint."""
        made = _secret(secret)
        old_until = grants.end(old_for, time.time(), "old_for")
        deed = Deed(by, "endpoint-rotate", name, f"the secrets before it end at {old_until}")
        number = self._endpoints.add_secret(name, made, old_until, deed)
        return None if number is None else Rotated(number, made, old_until)

    def remove_secret(self, name: str, number: int, by: Actor) -> bool:
        """Sign no more with a secret; return whether it was there."""
        if number > _MAX_NUMBER:
            return False
        deed = Deed(by, "endpoint-secret-remove", name, f"secret {number}")
        return self._endpoints.remove_secret(name, number, deed)

    def redrive(self, name: str, ids: Sequence[int] | None, by: Actor) -> int:
        """Have messages that were given up tried again, all for None; return how many."""
        deed = Deed(by, "endpoint-redrive", name, _which(ids))
        return self._endpoints.redrive(name, _checked(ids), deed)

    def discard(self, name: str, ids: Sequence[int] | None, by: Actor) -> int:
        """Forget undelivered messages, all that were given up or are gone for None; how many."""
        deed = Deed(by, "endpoint-discard", name, _which(ids))
        return self._endpoints.discard(name, _checked(ids), deed)

    def _told(self, endpoint: EndpointRow, wish: Mapping[str, Any]) -> EndpointRow:
        """Return an endpoint with what a wish says of it, checked."""
        told: dict[str, Any] = {}
        if "url" in wish:
            target = endpoint_settings.endpoint_target(wish["url"])
            self._check_reach(target)
            told["url"] = str(target)
        if "topics" in wish:
            told["topics"] = endpoint_settings.endpoint_topics(wish["topics"])
        if "where" in wish:
            told["where"] = tuple(map(str, endpoint_settings.endpoint_conditions(wish["where"])))
        if "settings" in wish:
            merged = {**endpoint.settings, **wish["settings"]}
            settings = {name: value for name, value in merged.items() if value is not None}
            endpoint_settings.endpoint_settings(merged)
            told["settings"] = settings
        return dataclasses.replace(endpoint, **told)

    def _check_reach(self, target: EndpointUrl) -> None:
        """Raise InputError for a host all of whose addresses are refused.

        A name can stand for another address by the time of an attempt, so each attempt looks anew.
        Here it only spares its owner the wait for the first one; one without an address passes.
        """
        host = names.without_lookup(target.host)
        try:
            found = asyncio.run(names.addresses(host, target.port))
        except OSError:
            return
        refusals = [outward.refusal(address, self._listed) for address in found]
        if refusals and all(refusals):
            raise InputError(
                f"url: {refusals[0]}; the setting APPLIANCE_DELIVER_ALLOW lists the networks that "
                "may be reached all the same"
            )

    def _start(self, value: object) -> int | None:
        """Return behind which `seq` an endpoint begins; None: behind all that is stored."""
        if value is None or value == "now":
            return None
        if value == "beginning":
            return 0
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_NUMBER:
            raise InputError(
                "from: expected now, beginning, or the seq of the first message that it gets"
            )
        if value > (newest := self._newest()):
            raise InputError(f"from: the newest message has the seq {newest}; write now")
        return value - 1


def _secret(given: object) -> str:
    """Return a signing secret as its owners write it; a new one for None. Raises InputError."""
    if given is None:
        return standard.new_secret()
    key = standard.key_of(given) if isinstance(given, str) else None
    if key is None or len(key) not in _SECRET_BYTES:
        raise InputError(
            "secret: expected whsec_ and the base64 of 24 to 64 bytes; leave it out to have one "
            "made"
        )
    return f"whsec_{str(given).removeprefix('whsec_')}"


def _checked(ids: Sequence[int] | None) -> Sequence[int] | None:
    if ids is None:
        return None
    if not 0 < len(ids) <= MOST_IDS or not all(
        isinstance(each, int) and not isinstance(each, bool) and 0 < each <= _MAX_NUMBER
        for each in ids
    ):
        raise InputError(f"ids: expected 1 to {MOST_IDS} ids of undelivered messages")
    return ids


def _which(ids: Sequence[int] | None) -> str:
    if ids is None:
        return "all"
    listed = ", ".join(map(str, ids[:20]))
    return listed if len(ids) <= 20 else f"{listed}, ... ({len(ids)})"


def _words(endpoint: EndpointRow) -> str:
    """Return what the audit trail says of an endpoint: its host, as a path can hold a secret."""
    target = endpoint_settings.endpoint_target(endpoint.url)
    return f"{', '.join(endpoint.topics)} to {target.scheme}://{target.authority}"
