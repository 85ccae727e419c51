"""Subscriptions, from which consumers pull: how each stands, made and removed by administrators."""

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.outward_tabs import OUTWARD_TABS
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.errors import InputError
from appliance.operations.subscription_wish import wished
from appliance.store.access_rows import Deed

#: Subscriptions of a page, and messages of one that are counted as its lag.
_ROWS: Final = 100
_MOST_LAG: Final = 10_000


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/subscriptions and the addresses below it."""
    subscriptions = parts.subscriptions

    @views.get("/subscriptions")
    @needs(Right.ADMIN)
    def show_subscriptions() -> str:
        return _list(parts)

    @views.post("/subscriptions")
    @needs(Right.ADMIN)
    def create_subscription() -> AnyResponse | str:
        form = request.form
        try:
            row, since = wished(_wish(form))
            details = f"topics {' '.join(row.topics)}"
            deed = Deed(acting(), "subscription-create", row.name, details)
            subscriptions.create(row, since, deed)
        except InputError as error:
            return _list(parts, wrong=error.public, form=form)
        return redirect(url_for("console.show_subscriptions"), 303)

    @views.post("/subscriptions/<name>/remove")
    @needs(Right.ADMIN)
    def remove_subscription(name: str) -> AnyResponse | str:
        row, typed = subscriptions.find(name), request.form.get("typed")
        if row is None:
            raise NotFound
        if typed != name:
            return render_template(
                "console/subscription_remove.html", subscription=row, wrong=typed is not None
            )
        subscriptions.remove(name, Deed(acting(), "subscription-remove", name))
        return redirect(url_for("console.show_subscriptions"), 303)


def _list(parts: ConsoleParts, *, wrong: str = "", form: Mapping[str, str] | None = None) -> str:
    rows, after = parts.subscriptions.all(), request.args.get("after", "")
    shown = [row for row in rows if row.name > after]
    return render_template(
        "console/subscriptions.html",
        tabs=OUTWARD_TABS,
        count=len(rows),
        subscriptions=[
            (row, parts.subscriptions.counts(row.name, _MOST_LAG)) for row in shown[:_ROWS]
        ],
        following=shown[_ROWS - 1].name if len(shown) > _ROWS else None,
        wrong=wrong,
        form=form or {},
    )


def _wish(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the form says of a subscription. Raises InputError."""
    wish: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "topics": form.get("topics", "").replace(",", " ").split() or ["*"],
        "from": form.get("from", "now"),
    }
    for name in ("lease_seconds", "max_attempts"):
        if text := form.get(name, "").strip():
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise InputError(f"{name}: expected a whole number")
            wish[name] = int(text)
    return wish
