"""Endpoints over the API, for `appliance endpoint`: one request, and lists page by page."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

from appliance.client import Answer, Client
from appliance.config import Config
from appliance.errors import InputError

_PATH: Final = "/v1/endpoints"
#: Seconds of retrying while the appliance is unreachable or busy, where that is harmless.
_PATIENCE: Final = 10.0
#: Rows of one answer, at most.
_PAGE: Final = 1000


def send(config: Config, method: str, path: str, members: dict[str, Any] | None = None) -> Answer:
    """Return the answer to a request about endpoints. Raises InputError for one that is wrong."""
    with Client.of(config) as client:
        return _request(client, method, path, members)


def about(
    config: Config, method: str, name: str, rest: str = "", members: dict[str, Any] | None = None
) -> Answer:
    """Return the answer about the endpoint of this name. Raises InputError: there is none."""
    return _found(send(config, method, address(name, rest), members))


def rows(
    config: Config, name: str, key: str, query: dict[str, str], most: int
) -> Iterator[dict[str, Any]]:
    """Yield up to `most` rows of a list of an endpoint, the newest first."""
    with Client.of(config) as client:
        left = most
        while left > 0:
            asked = urlencode({**query, "limit": min(left, _PAGE)}, errors="surrogateescape")
            page = _found(_request(client, "GET", address(name, f"/{key}?{asked}"), None)).json()
            yield from page[key]
            if page["next"] is None:
                return
            query = {**query, "before": page["next"]}
            left -= len(page[key])


def address(name: str, rest: str = "") -> str:
    """Return the path of an endpoint below that of all."""
    return f"/{quote(name, safe='', errors='surrogateescape')}{rest}"


def _found(answer: Answer) -> Answer:
    if answer.status == 404:
        raise InputError(answer.detail)
    return answer


def _request(client: Client, method: str, path: str, members: dict[str, Any] | None) -> Answer:
    body = None if members is None else json.dumps(members).encode()
    # Whatever makes something is sent once: a second attempt would make another.
    patience = _PATIENCE if method in ("GET", "PATCH") else 0.0
    headers = {"Content-Type": "application/json"} if body else {}
    return client.request(method, _PATH + path, body, headers, patience=patience)
