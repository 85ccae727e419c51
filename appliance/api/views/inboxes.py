"""Inbox addresses, for administrators: make, list, change, rotate and revoke them.

The secret in an address is shown once, when it is made: only its hash is kept.
"""

import time
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.json_body import read_object
from appliance.auth import inbox_settings
from appliance.auth.inbox_desk import new_secret
from appliance.errors import InputError
from appliance.model import grants, timestamps
from appliance.model.topics import check_topic
from appliance.store.access_rows import Deed, InboxRow, SigningSecret

#: For how long an address is good after a new one was made.
_OLD_FOR: Final = "1d"


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/inboxes and the addresses below it."""
    views = Blueprint("inboxes", __name__)
    access = services.access

    @views.get("/v1/inboxes")
    def list_inboxes() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer({"inboxes": [_shown(inbox) for inbox in access.inboxes()]})

    @views.post("/v1/inboxes")
    def create_inbox() -> Response:
        given = read_object(
            {"topic": str, "kind": str, "name": str, "secrets": list, "settings": dict}
        )
        made, secret = services.inboxes.create(
            given.get("topic", ""),
            given.get("kind", "open"),
            actor(),
            name=given.get("name"),
            secrets=_texts(given.get("secrets", [])),
            settings=_merged({}, given.get("settings", {})),
        )
        answer = json_answer({**_shown(made), "address": _address(secret)}, 201)
        answer.headers["Location"] = pages.address(f"/v1/inboxes/{made.name}")
        return answer

    @views.get("/v1/inboxes/<name>")
    def show_inbox(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        inbox = access.inbox(name)
        return _unknown(name) if inbox is None else json_answer(_shown(inbox))

    @views.patch("/v1/inboxes/<name>")
    def update_inbox(name: str) -> Response:
        inbox = access.inbox(name)
        return _unknown(name) if inbox is None else _change(services, inbox)

    @views.delete("/v1/inboxes/<name>")
    def revoke_inbox(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not services.inboxes.revoke(name, actor()):
            return _unknown(name)
        return Response(status=204)

    _serve_secrets(views, services)
    return views


def _serve_secrets(views: Blueprint, services: Services) -> None:
    """Serve what changes the secret in an address, and those with which its sender signs."""
    access = services.access

    @views.post("/v1/inboxes/<name>/rotate")
    def rotate_inbox(name: str) -> Response:
        old_until = _old_until(read_object({"old_for": str}).get("old_for", _OLD_FOR))
        secret, digest = new_secret()
        deed = Deed(actor(), "inbox-rotate", name, f"the address before it ends at {old_until}")
        if not access.rotate_inbox(name, digest, old_until, deed):
            return _unknown(name)
        services.refresher.refresh()
        return json_answer({"name": name, "address": _address(secret), "old_until": old_until})

    @views.post("/v1/inboxes/<name>/secrets")
    def add_secret(name: str) -> Response:
        given = read_object({"secret": str, "old_for": str})
        inbox = access.inbox(name)
        if inbox is None:
            return _unknown(name)
        secret = inbox_settings.rules(inbox.kind, inbox.settings).check_secret(
            given.get("secret", "")
        )
        old_until = _old_until(given["old_for"]) if "old_for" in given else None
        words = f"those before it end at {old_until}" if old_until else ""
        number = access.add_signing_secret(
            name, secret, old_until, Deed(actor(), "inbox-secret-add", name, words)
        )
        if number is None:
            return _unknown(name)
        services.refresher.refresh()
        return json_answer({"name": name, "id": number, "old_until": old_until}, 201)

    @views.delete("/v1/inboxes/<name>/secrets/<int:number>")
    def remove_secret(name: str, number: int) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        inbox = access.inbox(name)
        if inbox is None:
            return _unknown(name)
        if all(each.id != number for each in inbox.signing_secrets):
            return problem_answer(problems.not_found(f"{name} has no secret {number}"))
        if all(each.id == number for each in _living(inbox)):
            raise InputError(
                "this is the only secret; add the next one before, or revoke the address"
            )
        deed = Deed(actor(), "inbox-secret-remove", name, f"secret {number}")
        access.remove_signing_secret(name, number, deed)
        services.refresher.refresh()
        return Response(status=204)


def _change(services: Services, inbox: InboxRow) -> Response:
    """Change an inbox as the request says."""
    given = read_object({"topic": str, "kind": str, "secrets": list, "settings": dict})
    changed = InboxRow(
        name=inbox.name,
        topic=check_topic(given.get("topic", inbox.topic)),
        kind=given.get("kind", inbox.kind),
        settings=_merged(inbox.settings, given.get("settings", {})),
        created_at=inbox.created_at,
    )
    rules = inbox_settings.rules(changed.kind, changed.settings)
    added = _texts(given.get("secrets", []))
    if rules.check is not None or added:
        rules.check_secrets((*_current(inbox), *added))
    for secret in added:
        deed = Deed(actor(), "inbox-secret-add", inbox.name)
        services.access.add_signing_secret(inbox.name, secret, None, deed)
    if not services.access.update_inbox(changed, _deed("inbox-update", inbox.name, changed)):
        return _unknown(inbox.name)
    services.refresher.refresh()
    return json_answer(_shown(services.access.inbox(inbox.name) or changed))


def _shown(inbox: InboxRow) -> dict[str, Any]:
    """Return what can be shown of an inbox: no secret of any kind."""
    return {
        "name": inbox.name,
        "topic": inbox.topic,
        "kind": inbox.kind,
        "settings": inbox.settings,
        "created_at": inbox.created_at,
        "last_used_at": inbox.last_used_at,
        "addresses": inbox.addresses,
        "secrets": [
            {"id": each.id, "created_at": each.created_at, "expires_at": each.expires_at}
            for each in inbox.signing_secrets
        ],
    }


def _texts(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise InputError("secrets: expected a list of texts")
    return tuple(values)


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with changes; null takes one away (RFC 7396)."""
    return {name: value for name, value in {**settings, **changes}.items() if value is not None}


def _living(inbox: InboxRow) -> list[SigningSecret]:
    now = timestamps.now()
    return [
        each for each in inbox.signing_secrets if each.expires_at is None or each.expires_at > now
    ]


def _current(inbox: InboxRow) -> list[str]:
    return [each.secret for each in _living(inbox)]


def _deed(action: str, name: str, inbox: InboxRow) -> Deed:
    return Deed(actor(), action, name, f"{inbox.kind} into {inbox.topic}")


def _address(secret: str) -> str:
    """Return the address for a sender, as the client of this request reaches us."""
    return f"{request.root_url.rstrip('/')}/in/{secret}"


def _old_until(span: str) -> str:
    return grants.end(span, time.time(), "old_for")


def _unknown(name: str) -> Response:
    return problem_answer(problems.not_found(f"there is no inbox {name[:100]}"))
