"""The overview: whether all is well, how much comes, and what needs someone."""

from typing import Final

from flask import Blueprint, render_template, request

from appliance.auth.principal import Right
from appliance.console.assets import assets
from appliance.console.listing import find, read_listing
from appliance.console.parts import ConsoleParts
from appliance.console.rights import patterns, principal
from appliance.console.traffic import SPANS, traffic
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.store.rows import TopicChoice

#: Topics that are shown, those that had a message last; and messages.
_TOPICS: Final = 8
_MESSAGES: Final = 10


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/ and /console/live."""

    @views.get("/")
    def show_overview() -> str:
        visible = patterns()
        totals = parts.reader.totals(visible)
        is_whole = not principal().is_restricted
        page = find(parts.reader, read_listing({}, visible, None), _MESSAGES)
        return render_template(
            "console/overview.html",
            totals=totals,
            waiting=parts.broker().depth if is_whole else None,
            topics=parts.reader.topic_list(
                TopicChoice(sort="last", descending=True, patterns=visible), _TOPICS
            ),
            rows=page.rows,
            traffic=traffic(parts.reader, request.args.get("span", "1h")) if is_whole else None,
            spans=SPANS,
            processes=parts.processes() if principal().may(Right.ADMIN) and is_whole else [],
            disk=_disk(parts) if is_whole else None,
        )

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


def _disk(parts: ConsoleParts) -> disk_space.Disk | None:
    try:
        return disk_space.disks(parts.config)[0]
    except StoreError:
        return None
