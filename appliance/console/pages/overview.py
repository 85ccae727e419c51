"""The overview: whether all is well, how much comes, and what needs someone."""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from flask import Blueprint, render_template, request

from appliance.alerts import alert_book
from appliance.auth.principal import Right
from appliance.console.assets import assets
from appliance.console.charts import COLUMNS, SPANS, charts, rate
from appliance.console.listing import find, read_listing
from appliance.console.parts import ConsoleParts
from appliance.console.rights import patterns, principal
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.model.history_points import combined
from appliance.model.timestamps import timestamp
from appliance.proofs import canary_book, proof_book
from appliance.store.rows import TopicChoice

#: Topics that are shown, those that had a message last; and messages.
_TOPICS: Final = 8
_MESSAGES: Final = 10
#: Seconds of which the numbers of this moment speak, and of the hour.
_MOMENT: Final = 60
_HOUR: Final = 3600


class _Lately(NamedTuple):
    """Messages a second in the last minute, and how slow they were; refusals in an hour."""

    accepted: str
    stored: str
    p99_seconds: float | None
    refused: int


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/ and /console/live."""

    @views.get("/")
    def show_overview() -> str:
        visible = patterns()
        totals = parts.reader.totals(visible)
        shown = {
            "totals": totals,
            "topics": parts.reader.topic_list(
                TopicChoice(sort="last", descending=True, patterns=visible), _TOPICS
            ),
            "rows": find(parts.reader, read_listing({}, visible, None), _MESSAGES).rows,
            "waiting": None,
            "alerts": [],
            "first_topic": _first_topic(visible),
            "awaits_first": not totals.messages and totals.last_at is None,
        }
        if not principal().is_restricted:
            shown |= _of_all(parts, request.args.get("span", ""))
        return render_template("console/overview.html", **shown)

    @views.get("/live")
    def show_wall() -> str:
        listing = read_listing(request.args, patterns(), None)
        return render_template(
            "console/wall.html",
            listing=listing,
            page=find(parts.reader, listing),
            stream=f"{request.script_root}/v1/stream",
            has_live="live.js" in assets(),
        )


def _first_topic(visible: Sequence[str] | None) -> str:
    """Return a topic for a first message: one of those that the principal has rights for."""
    named = ["orders"] if visible is None else [each.replace("*", "first") for each in visible]
    return named[0] if named else "orders"


def _of_all(parts: ConsoleParts, span: str) -> dict[str, object]:
    """Return what tells of all topics together."""
    broker, full_at = parts.broker(), parts.chronicler.full_at()
    return {
        "waiting": broker.depth,
        "oldest": broker.oldest_seconds,
        "lately": _lately(parts),
        "charts": charts(parts.chronicler, span, parts.config.min_free_bytes),
        "columns": COLUMNS,
        "spans": SPANS,
        "processes": parts.processes() if principal().may(Right.ADMIN) else [],
        "disk": _disk(parts),
        "full_at": None if full_at is None else timestamp(full_at),
        "full_in": None if full_at is None else max(0.0, full_at - time.time()),
        "alerts": alert_book.raised(parts.config),
        "canary": canary_book.read(parts.config),
        "restorable_at": proof_book.read(parts.config).restorable_at,
    }


def _lately(parts: ConsoleParts) -> _Lately | None:
    hour = parts.chronicler.of(_HOUR).points
    minute = parts.chronicler.of(_MOMENT).points
    if not minute:
        return None
    now = combined(0, minute)
    seconds = max(now.seconds, 1.0)
    return _Lately(
        rate(now.accepted / seconds),
        rate(now.stored / seconds),
        now.p99_seconds,
        combined(0, hour).refused,
    )


def _disk(parts: ConsoleParts) -> disk_space.Disk | None:
    try:
        return disk_space.disks(parts.config)[0]
    except StoreError:
        return None
