"""Replays over the API, for `appliance replay`: one request, and the wait until one is done."""

import json
import sys
import time
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

_PATH: Final = "/v1/replays"
#: Seconds of retrying while the appliance is unreachable or busy, where that is harmless.
_PATIENCE: Final = 30.0
#: Seconds between two looks how far it has come: the first, and the most.
_LOOK_FIRST: Final = 0.05
_LOOK_LAST: Final = 1.0
#: Steps of the bar that shows the progress.
_STEPS: Final = 1000


def send(
    config: Config, method: str, path: str, members: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the answer to a request about replays. Raises InputError for one that is wrong."""
    body = None if members is None else json.dumps(members).encode()
    headers = {"Content-Type": "application/json"} if body else {}
    # An order is sent once: a second attempt would make another replay.
    is_harmless = method == "GET" or (members or {}).get("dry_run")
    with Client.of(config) as client:
        answer = client.request(
            method, _PATH + path, body, headers, patience=_PATIENCE if is_harmless else 0.0
        )
    if answer.status == 404:
        raise InputError(answer.detail)
    found: dict[str, Any] = answer.json()
    return found


def about(config: Config, method: str, replay_id: str, rest: str = "") -> dict[str, Any]:
    """Return the replay with this id. Raises InputError where there is none."""
    return send(config, method, f"/{quote(replay_id, safe='', errors='surrogateescape')}{rest}")


def wait(config: Config, found: dict[str, Any], *, shown: bool) -> dict[str, Any]:
    """Return a replay once it runs no more; with `shown`, a bar says how far it is."""
    pause = _LOOK_FIRST
    with click.progressbar(length=_STEPS, file=sys.stderr, hidden=not shown) as bar:
        while True:
            bar.update(int(found["progress"] * _STEPS) - bar.pos)
            if found["state"] != "running":
                return found
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_LAST)
            found = about(config, "GET", found["id"])
