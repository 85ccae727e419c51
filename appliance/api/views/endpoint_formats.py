"""Endpoints, attempts and undelivered messages as JSON; no secret is in it. Pure."""

from typing import Any

from appliance.errors import InputError
from appliance.model import timestamps
from appliance.model.endpoint_settings import endpoint_settings
from appliance.store.endpoint_rows import AttemptRow, DueRow, EndpointBacklog, EndpointRow


def endpoint(row: EndpointRow, backlog: EndpointBacklog) -> dict[str, Any]:
    """Return what can be shown of an endpoint; of its own headers that is their names."""
    return {
        "name": row.name,
        "url": row.url,
        "topics": list(row.topics),
        "where": list(row.where),
        "settings": _settings(row.settings),
        "own_headers": list(row.own_headers),
        "state": row.state,
        "reason": row.reason or None,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
        "cursor": row.cursor,
        "behind": backlog.behind,
        "oldest_at": backlog.oldest_at,
        "undelivered": {
            "waiting": backlog.waiting,
            "given_up": backlog.given_up,
            "gone": backlog.gone,
            "held_topics": backlog.lanes,
        },
        "breaker": {
            "state": "closed" if row.broken_at is None else "open",
            "failures": row.failures,
            "since": moment(row.broken_at),
            "retry_at": moment(row.retry_at),
            "trouble": row.trouble or None,
        },
        "totals": {
            "delivered": row.delivered,
            "failed_attempts": row.failed,
            "given_up": row.given_up,
            "gone": row.gone,
        },
        "delivered_at": row.delivered_at,
        "secrets": [
            {"id": each.id, "created_at": each.created_at, "expires_at": each.expires_at}
            for each in row.signing_secrets
        ],
    }


def attempt(row: AttemptRow) -> dict[str, Any]:
    """Return an attempt to deliver a message."""
    shown = row._asdict()
    del shown["endpoint"]
    return shown | {"error": row.error or None}


def undelivered(row: DueRow) -> dict[str, Any]:
    """Return a message whose delivery failed so far."""
    shown = row._asdict()
    del shown["endpoint"]
    return shown | {"first_at": moment(row.first_at), "due_at": moment(row.due_at)}


def moment(seconds: float | None) -> str | None:
    """Return a Unix time as the API writes times; None where there is none that can be written."""
    if seconds is None or not 0 <= seconds <= timestamps.LAST_SECOND:
        return None
    return timestamps.timestamp(seconds)


def _settings(stored: dict[str, Any]) -> dict[str, Any]:
    """Return all settings that are in force; as they are stored where SQL wrote nonsense."""
    try:
        return endpoint_settings(stored).members()
    except InputError:
        return stored
