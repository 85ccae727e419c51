"""Checks that a sender makes of an address before it sends: each is answered as it wants. Pure.

What is answered is what was asked, so it goes out as plain text or JSON that no browser runs, and
nothing that comes with a check is kept.
"""

import hmac
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from appliance.api.http.head import Head
from appliance.auth.inbox_settings import InboxRules
from appliance.auth.signatures.kinds import FixedAnswer

#: Characters of a challenge, and bytes of the body that it comes in.
_MAX_CHALLENGE: Final = 1024
_MAX_BODY: Final = 16 * 1024
#: The checks that come as a JSON body, by their names in the settings.
_IN_BODY: Final = ("slack", "json", "zoom")
#: What somebody sees who opens the address.
_HELLO: Final = b"This address takes messages: send them with POST.\n"
_PLAIN: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


def of_get(head: Head) -> FixedAnswer:
    """Return what a GET is answered: the challenge in its query, or that something is here.

    WebSub and Meta send `hub.challenge` with `hub.mode`; Dropbox sends `challenge`.
    """
    query = _query(head)
    challenge = query.get("hub.challenge") if "hub.mode" in query else query.get("challenge")
    return _plain(challenge) if _is_challenge(challenge) else FixedAnswer(200, _PLAIN, _HELLO)


def is_hub(head: Head) -> bool:
    """Whether a GET is the check of WebSub, which its query says for certain."""
    query = _query(head)
    return "hub.mode" in query and "hub.challenge" in query


def of_empty_post(head: Head) -> FixedAnswer | None:
    """Return what a POST without a body is answered where it is Microsoft Graph's check."""
    token = _query(head).get("validationToken")
    return _plain(token) if _is_challenge(token) else None


def of_post(
    head: Head, body: bytes, rules: InboxRules, secrets: Sequence[str]
) -> FixedAnswer | None:
    """Return what a POST is answered where it is a check and no message; else None.

    Where the address verifies signatures, that of the check was found right before.
    """
    if not body:
        return None if rules.kind.is_signed else of_empty_post(head)
    is_grid = _is_grid(head, rules)
    if len(body) > _MAX_BODY or not (is_grid or rules.challenge in _IN_BODY):
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if is_grid:
        return _event_grid(document)
    return _in_body(document, rules, secrets) if isinstance(document, dict) else None


def _is_grid(head: Head, rules: InboxRules) -> bool:
    """Whether it is the check that Azure Event Grid makes, which signs nothing."""
    name = head.values.get(b"aeg-event-type")
    return name == b"SubscriptionValidation" and not rules.kind.is_signed


def _in_body(
    document: dict[str, Any], rules: InboxRules, secrets: Sequence[str]
) -> FixedAnswer | None:
    if rules.challenge == "zoom":
        return _zoom(document, secrets)
    challenge = document.get("challenge")
    if not _is_challenge(challenge):
        return None
    if rules.challenge == "json":
        return _json({"challenge": challenge})
    return _plain(challenge) if document.get("type") == "url_verification" else None


def _event_grid(document: Any) -> FixedAnswer | None:
    event = document[0] if isinstance(document, list) and len(document) == 1 else None
    data = event.get("data") if isinstance(event, dict) else None
    code = data.get("validationCode") if isinstance(data, dict) else None
    return _json({"validationResponse": code}) if _is_challenge(code) else None


def _zoom(document: dict[str, Any], secrets: Sequence[str]) -> FixedAnswer | None:
    payload = document.get("payload")
    token = payload.get("plainToken") if isinstance(payload, dict) else None
    if document.get("event") != "endpoint.url_validation" or not _is_challenge(token):
        return None
    code = hmac.new(secrets[0].encode(), str(token).encode(), "sha256").hexdigest()
    return _json({"plainToken": token, "encryptedToken": code})


def _is_challenge(value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CHALLENGE:
        return False
    return value.isprintable()


def _plain(challenge: object) -> FixedAnswer:
    return FixedAnswer(200, _PLAIN, str(challenge).encode())


def _json(members: dict[str, Any]) -> FixedAnswer:
    return FixedAnswer(200, _JSON, orjson.dumps(members))


def _query(head: Head) -> dict[str, str]:
    """Return the first value of each parameter; nothing where the query can't be read."""
    try:
        fields = parse_qs(head.query.decode("latin-1"), max_num_fields=32)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
