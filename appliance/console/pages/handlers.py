"""Handlers: the messages that wait for each function, its counts, and whether somebody runs it."""

from flask import Blueprint, render_template

from appliance.auth.principal import Right
from appliance.console.outward_tabs import OUTWARD_TABS
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.model.handler_outcomes import HANDLER_FAILED
from appliance.operations.handler_overview import handler_overview


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/handlers."""

    @views.get("/handlers")
    @needs(Right.ADMIN)
    def show_handlers() -> str:
        return render_template(
            "console/handlers.html",
            tabs=OUTWARD_TABS,
            overview=handler_overview(parts.config, parts.handling),
            failed=HANDLER_FAILED,
        )
