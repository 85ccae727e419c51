"""The overview: whether all is well, how much there is, and what needs someone."""

from typing import Final

from flask import Blueprint, render_template

from appliance.console.parts import ConsoleParts
from appliance.console.rights import patterns, principal
from appliance.errors import StoreError
from appliance.machine import disk_space

#: Topics that are shown: those with the most messages.
_TOPICS: Final = 8


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/."""

    @views.get("/")
    def show_overview() -> str:
        visible = patterns()
        totals = parts.reader.totals(visible)
        broker = parts.broker()
        is_whole = not principal().is_restricted
        return render_template(
            "console/overview.html",
            totals=totals,
            waiting=broker.depth if is_whole else None,
            topics=parts.reader.topics(limit=_TOPICS, patterns=visible),
            processes=parts.processes() if is_whole else [],
            disk=_disk(parts) if is_whole else None,
        )


def _disk(parts: ConsoleParts) -> disk_space.Disk | None:
    try:
        return disk_space.disks(parts.config)[0]
    except StoreError:
        return None
