"""The table `endpoints` and its secrets, read as rows. Called with an open connection."""

# ruff: noqa: S608  # the SQL is put together from texts of this package, and values are bound

import json
from collections.abc import Sequence
from typing import Any, Final

from appliance.model import timestamps
from appliance.store.access_rows import SigningSecret
from appliance.store.endpoint_rows import EndpointRow, Outfit
from appliance.store.sql.database import SqlConnection

_PLAIN: Final = (
    "id", "name", "url", "state", "reason", "created_at", "changed_at", "cursor", "failures",
    "broken_at", "retry_at", "trouble", "delivered", "failed", "given_up", "gone", "delivered_at",
)  # fmt: skip


def endpoint_rows(
    connection: SqlConnection, condition: str, values: Sequence[Any] = ()
) -> list[EndpointRow]:
    """Return the endpoints that fulfil a condition in SQL, in its order."""
    return [each.row for each in outfits(connection, condition, values)]


def outfits(connection: SqlConnection, condition: str, values: Sequence[Any] = ()) -> list[Outfit]:
    """Return the same with what requests are made with, as far as it counts now."""
    rows = connection.execute(
        f"SELECT topics, conditions, settings, {', '.join(_PLAIN)} FROM endpoints "
        f"WHERE {condition}",
        values,
    ).fetchall()
    signing: dict[int, list[SigningSecret]] = {}
    headers: dict[int, list[tuple[str, str]]] = {}
    for endpoint, header, *secret in connection.execute(
        "SELECT endpoint, header, id, secret, created_at, expires_at FROM endpoint_secrets "
        "WHERE expires_at IS NULL OR expires_at > ? ORDER BY id",
        (timestamps.now(),),
    ):
        if header is None:
            signing.setdefault(endpoint, []).append(SigningSecret._make(secret))
        else:
            headers.setdefault(endpoint, []).append((header, secret[1]))
    found = []
    for topics, conditions, settings, *plain in rows:
        number = plain[0]
        row = EndpointRow(
            topics=tuple(_read(topics, [])),
            where=tuple(_read(conditions, [])),
            settings=_read(settings, {}),
            signing_secrets=tuple(signing.get(number, ())),
            own_headers=tuple(name for name, _ in headers.get(number, ())),
            **dict(zip(_PLAIN, plain, strict=True)),
        )
        secrets = tuple(each.secret for each in reversed(row.signing_secrets))
        found.append(Outfit(row, secrets, tuple(headers.get(number, ()))))
    return found


def _read(text: str, empty: Any) -> Any:
    """Return JSON of the type of `empty`, which stands for what someone broke by SQL."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        return empty
    return value if isinstance(value, type(empty)) else empty
