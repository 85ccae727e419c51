"""The wish of a consumer: to receive messages, or to settle those that it has. Pure."""

from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import parse_qs

import orjson

from appliance.api.http.head import Head
from appliance.api.views import parameters
from appliance.auth.principal import Principal
from appliance.errors import InputError
from appliance.model import leases, quantities
from appliance.store.subscription_rows import Receive, Settlement

#: Messages of one receive: unless it says how many, and at most; leases of one acknowledgement.
DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
#: Seconds that a receive waits at most: many proxies end an answer that has not begun in a minute.
MAX_WAIT: Final = 50
#: Seconds until a message that is given back is handed out again, at most.
MAX_DELAY: Final = 12 * 3600
#: Characters of a lease's id that are looked at.
_LEASE_LENGTH: Final = 100
_MOST_FIELDS: Final = 20
_RECEIVE: Final = ("wait", "limit", "lease")
_MEMBERS: Final = {
    "ack": ("leases",),
    "nack": ("leases", "delay", "reason"),
    "extend": ("leases", "lease"),
}


@dataclass(frozen=True, slots=True)
class ReceiveOptions:
    """A receive, and the seconds for which it waits for a message."""

    order: Receive
    wait: float


def read_receive(head: Head, name: str, principal: Principal) -> ReceiveOptions:
    """Return what the head of a receive asks for. Raises InputError."""
    query = parameters.read(_fields(head), _RECEIVE)
    limit = _whole("limit", query.get("limit"), DEFAULT_LIMIT, 1, MAX_LIMIT)
    wait = _seconds("wait", query.get("wait"), 0, 0, MAX_WAIT)
    lease = _lease(query.get("lease"))
    return ReceiveOptions(Receive(name, _patterns(principal), limit, lease), wait)


def check_no_query(head: Head) -> None:
    """Raise InputError where an address that takes no parameters has one."""
    parameters.read(_fields(head), ())


def read_settlement(
    action: Literal["ack", "nack", "extend"], name: str, principal: Principal, body: bytes
) -> Settlement:
    """Return what a body says of leases. Raises InputError."""
    members = _members(action, body)
    ids = members.get("leases")
    if not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids):
        raise InputError(
            'leases: expected a list of the ids that a receive gave: {"leases": [...]}'
        )
    if len(ids) > MAX_LIMIT:
        raise InputError(f"leases: expected {MAX_LIMIT} at most; send the rest on its own")
    if any(len(each) > _LEASE_LENGTH for each in ids):
        raise InputError("leases: one of them is too long to be the id of a lease")
    seconds, reason = 0, ""
    if action == "nack":
        seconds = _seconds("delay", members.get("delay"), 0, 0, MAX_DELAY)
        reason = members.get("reason") or ""
        if not isinstance(reason, str):
            raise InputError("reason: expected a text")
        reason = reason.encode(errors="replace").decode()
    elif action == "extend":
        lease = _lease(members.get("lease"))
        seconds = leases.DEFAULT_SECONDS if lease is None else lease
    named = tuple(dict.fromkeys(ids))
    return Settlement(action, name, _patterns(principal), named, seconds, reason)


def _members(action: str, body: bytes) -> dict[str, Any]:
    try:
        members = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise InputError('the body is not JSON; expected {"leases": [...]}') from error
    if not isinstance(members, dict):
        raise InputError('the body is not a JSON object; expected {"leases": [...]}')
    for name in members:
        if name not in _MEMBERS[action]:
            takes = ", ".join(_MEMBERS[action])
            raise InputError(f"unknown member {name[:50]!r}; {action} takes {takes}")
    return cast("dict[str, Any]", members)


def _fields(head: Head) -> dict[str, list[str]]:
    try:
        return parse_qs(
            head.query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise InputError("the query has too many parameters") from error


def _lease(value: object) -> int | None:
    if value is None:
        return None
    return _seconds("lease", value, 0, leases.MIN_SECONDS, leases.MAX_SECONDS)


def _seconds(name: str, value: object, default: int, least: int, most: int) -> int:
    """Return whole seconds, from a number or a span such as `5m`."""
    if isinstance(value, str) and not value.isdigit():
        try:
            value = int(quantities.span(value))
        except ValueError as error:
            raise InputError(f"{name}: expected seconds, or a span such as 30s or 5m") from error
    return _whole(name, value, default, least, most)


def _whole(name: str, value: object, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name}: expected a whole number from {least} to {most}")
    return value


def _patterns(principal: Principal) -> tuple[str, ...] | None:
    return principal.topics if principal.is_restricted else None
