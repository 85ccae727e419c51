"""Checks a quarantined letter with the secrets and schemas of today, before it is sent again.

A signature is verified over the bytes and the headers that were kept. Its time is not looked at:
the letter waited here, and an administrator asks for it. What is kept of a request has no address
(it holds a secret), so a kind that signs its address can't be verified again.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from appliance.api.bodies.decoding import Decoded, decode
from appliance.api.bodies.plan import SINGLE, read_plan
from appliance.api.inbox import event_keys
from appliance.api.publish.publish_options import parameters
from appliance.auth import inbox_settings
from appliance.auth.inbox_settings import InboxRules
from appliance.auth.signatures.verdict import REASONS, Evidence, Verdict
from appliance.config import Config
from appliance.errors import InputError, RedriveError
from appliance.model import meta as metas
from appliance.model.ids import key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Message
from appliance.redrive import Rechecked, as_it_is, without_quarantine
from appliance.schemas.book import OBSERVE, SCHEMA, SchemaBook
from appliance.store.access_rows import InboxRow, SigningSecret
from appliance.store.base import Access, Reader
from appliance.store.rows import Letter

_FORCE: Final = "; ?force=true sends it all the same"


class Rechecker:
    """Used by any thread."""

    def __init__(self, config: Config, access: Access, book: SchemaBook, reader: Reader) -> None:
        self._config = config
        self._reader = reader
        self._access = access
        self._book = book

    def check(self, letter: Letter, body: bytes, topic: str) -> Rechecked:
        """Return what the letter becomes in this topic. Raises RedriveError where it fails again.

        A letter that failed no check is returned as it is.
        """
        if letter.reason == SCHEMA:
            self._check_schema(topic, [body])
            return as_it_is(letter, body)
        meta = _members(letter.meta)
        if "quarantine" not in meta:
            return as_it_is(letter, body)
        inbox = self._inbox(meta)
        rules = inbox_settings.rules(inbox.kind, inbox.settings)
        headers = _headers(meta, letter.content_type)
        if letter.reason in REASONS:
            if rules.check is None:
                raise RedriveError(f"the inbox {inbox.name} checks no signature any more{_FORCE}")
            secrets = tuple(each.secret for each in inbox.signing_secrets if _counts(each))
            verdict = rules.check(Evidence(headers, body), secrets, time.time(), math.inf)
            if not verdict.is_verified:
                raise RedriveError(f"its signature is still not right: {_because(verdict)}{_FORCE}")
        decoded, is_single = self._decoded(meta, headers, body)
        self._check_schema(topic, decoded.bodies)
        prefix, event = _key(topic, inbox, rules, headers, decoded, is_single=is_single)
        base = _verified(letter.meta, event, is_verified=rules.check is not None)
        parts = decoded.parts or [decoded.common] * len(decoded.bodies)
        messages = [
            Message(
                "", "", each,
                letter.content_type if part.content_type is None
                else metas.content_type(part.content_type),
                metas.extended(base, part.members or {}),
            )
            for each, part in zip(decoded.bodies, parts, strict=True)
        ]  # fmt: skip
        is_stored = bool(prefix) and self._reader.message(f"{prefix}00000000") is not None
        return Rechecked(messages, prefix, is_stored)

    def _inbox(self, meta: Mapping[str, Any]) -> InboxRow:
        name = meta.get("inbox")
        inbox = self._access.inbox(name) if isinstance(name, str) else None
        if inbox is None:
            raise RedriveError(f"the inbox that it came to is gone, and its secrets{_FORCE}")
        return inbox

    def _decoded(
        self, meta: Mapping[str, Any], headers: dict[bytes, bytes], body: bytes
    ) -> tuple[Decoded, bool]:
        try:
            query = meta.get("query")
            asked = parameters(query.encode("latin-1")) if isinstance(query, str) else {}
        except (InputError, ValueError):
            asked = {}
        try:
            plan = read_plan(
                list(headers.items()), headers, self._config, split=asked.get("split"),
                is_inbox=True,
            )  # fmt: skip
            decoded = decode(plan, body, self._config)
        except InputError as error:
            raise RedriveError(f"it still can't be read: {error}{_FORCE}") from error
        if not decoded.bodies:
            raise RedriveError("it holds no message; discard it")
        return decoded, plan.form in SINGLE

    def _check_schema(self, topic: str, bodies: Sequence[bytes]) -> None:
        schema = self._book.of(topic)
        if schema is None or schema.mode == OBSERVE:
            return
        if schema.checker is None:
            raise RedriveError(f"the schema of {topic} can't be checked here{_FORCE}")
        for body in bodies:
            if error := schema.checker.error(body):
                raise RedriveError(f"it still does not fit the schema of {topic}: {error}{_FORCE}")


def _key(
    topic: str,
    inbox: InboxRow,
    rules: InboxRules,
    headers: dict[bytes, bytes],
    decoded: Decoded,
    *,
    is_single: bool,
) -> tuple[str | None, str | None]:
    """Return the prefix of the ids that belong to the sender's key, and its id of the event."""
    key = event_keys.find_among(headers, decoded.bodies[0] if is_single else None, rules)
    event = key.text[: event_keys.MOST_SHOWN] if key and key.is_senders else None
    if is_single and decoded.parts and (own := decoded.parts[0].key):
        return key_prefix(topic, own), event
    return (key_prefix(topic, event_keys.scoped(inbox.name, key)) if key else None), event


def _verified(meta: str | None, event: str | None, *, is_verified: bool) -> str | None:
    members = {"verified": True if is_verified else None, "event_id": event}
    kept = without_quarantine(meta)
    try:
        return metas.extended(kept, members)
    except ValueError:  # it is full
        return metas.extended(metas.without_headers(kept), members)


def _because(verdict: Verdict) -> str:
    return f"{verdict.explanation} ({verdict.reason})"


def _counts(secret: SigningSecret) -> bool:
    return secret.expires_at is None or secret.expires_at > now()


def _members(meta: str | None) -> dict[str, Any]:
    try:
        found = orjson.loads(meta or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _headers(meta: Mapping[str, Any], content_type: str | None) -> dict[bytes, bytes]:
    kept = meta.get("headers")
    headers = {
        str(name).encode(): str(value).encode()
        for name, value in (kept.items() if isinstance(kept, dict) else ())
    }
    if content_type:
        headers[b"content-type"] = content_type.encode()
    return headers
