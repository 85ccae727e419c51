"""Access: tokens, inbox addresses, sessions, and what administrators did. For administrators."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.auth.snapshot import hashed
from appliance.console import session_cookie
from appliance.console.acting import acting
from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.errors import InputError
from appliance.store.access_rows import AuditEntry
from appliance.store.rows import Span

#: Rows on a page, and entries of the audit trail that are read at once for the export.
_ROWS: Final = 100
_AT_ONCE: Final = 1000
#: The pages, by the name of their view.
_TABS: Final = (
    ("show_access", "Tokens"),
    ("show_inboxes", "Inbox addresses"),
    ("show_sessions", "Sessions"),
    ("show_audit", "Audit"),
)
#: Cells that a spreadsheet would run.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_SEQ: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/access and the addresses below it."""
    _serve_tokens(views, parts)
    _serve_audit(views, parts)

    @views.get("/access/inboxes")
    @needs(Right.ADMIN)
    def show_inboxes() -> AnyResponse | str:
        if topic := request.args.get("topic", "").strip():
            return redirect(url_for("console.show_addresses", topic=topic), 303)
        inboxes = parts.access.inboxes()
        return _page("inboxes.html", count=len(inboxes), inboxes=_by_name(inboxes))

    @views.get("/access/sessions")
    @needs(Right.ADMIN)
    def show_sessions() -> str:
        own = hashed(session_cookie.secret().encode("utf-8", "replace"))
        return _page("sessions.html", sessions=parts.access.sessions(), own=own)

    @views.post("/access/sessions/end")
    @needs(Right.ADMIN)
    def end_session() -> AnyResponse:
        try:
            digest = bytes.fromhex(request.form.get("session", ""))
        except ValueError as error:
            raise NotFound from error
        if not parts.sign_in.end(digest, acting()):
            raise NotFound
        return redirect(url_for("console.show_sessions"), 303)


def _serve_tokens(views: Blueprint, parts: ConsoleParts) -> None:
    @views.get("/access")
    @needs(Right.ADMIN)
    def show_access() -> str:
        return _tokens(parts)

    @views.post("/access")
    @needs(Right.ADMIN)
    def create_token() -> str:
        form = request.form
        try:
            token, secret = parts.tokens.create(
                form.get("name", "").strip(),
                form.getlist("right"),
                acting(),
                topics=form.get("topics", "").replace(",", " ").split(),
                expires=form.get("expires", "").strip() or None,
                rate=form.get("rate", "").strip() or None,
            )
        except InputError as error:
            return _tokens(parts, wrong=error.public, form=form, rights=form.getlist("right"))
        return _tokens(parts, made=token, secret=secret)

    @views.post("/access/revoke")
    @needs(Right.ADMIN)
    def revoke_token() -> AnyResponse | str:
        name, typed = request.form.get("name", ""), request.form.get("typed")
        if all(each.name != name for each in parts.tokens.list_tokens()):
            raise NotFound
        if typed != name:
            return render_template(
                "console/revoke_confirm.html",
                what="token",
                name=name,
                words="It counts no more, at once and on open connections too.",
                action=url_for("console.revoke_token"),
                back=url_for("console.show_access"),
                wrong=typed is not None,
            )
        parts.tokens.revoke(name, acting())
        return redirect(url_for("console.show_access"), 303)


def _serve_audit(views: Blueprint, parts: ConsoleParts) -> None:
    @views.get("/access/audit")
    @needs(Right.ADMIN)
    def show_audit() -> str:
        before = request.args.get("before", "")
        span = Span(before=int(before)) if _SEQ.fullmatch(before) else Span()
        rows = parts.access.audit(span, _ROWS + 1)
        return _page(
            "audit.html",
            entries=rows[:_ROWS],
            older=rows[_ROWS - 1].seq if len(rows) > _ROWS else None,
            is_first=span.before is None,
        )

    @views.get("/access/audit.csv")
    @needs(Right.ADMIN)
    def export_audit() -> Response:
        answer = Response(_csv(parts), content_type="text/csv; charset=utf-8")
        answer.headers["Content-Disposition"] = 'attachment; filename="audit.csv"'
        return answer


def _page(template: str, **values: Any) -> str:
    return render_template(f"console/{template}", tabs=_TABS, **values)


@dataclass(frozen=True)
class _Names:
    """Rows of a list by name, and after which name those on the next page come."""

    rows: list[Any]
    is_first: bool
    following: str | None


def _by_name(rows: Sequence[Any]) -> _Names:
    """Return the page of a list in the order of names that the request asks for."""
    after = request.args.get("after", "")
    rest = [row for row in rows if row.name > after]
    following = rest[_ROWS - 1].name if len(rest) > _ROWS else None
    return _Names(rest[:_ROWS], not after, following)


def _tokens(
    parts: ConsoleParts,
    *,
    made: Any = None,
    secret: str = "",
    wrong: str = "",
    form: Mapping[str, str] | None = None,
    rights: list[str] | None = None,
) -> str:
    return _page(
        "access.html",
        count=len(tokens := parts.tokens.list_tokens()),
        tokens=_by_name(tokens),
        rights=[(right.value, right.value in (rights or ["publish"])) for right in Right],
        made=made,
        secret=secret,
        wrong=wrong,
        form=form or {},
    )


def _csv(parts: ConsoleParts) -> Iterator[str]:
    """Yield the whole trail, newest first, in pieces of a bounded size."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(AuditEntry._fields)
    before: int | None = None
    while True:
        rows = parts.access.audit(Span(before=before), _AT_ONCE)
        writer.writerows([_cell(value) for value in row] for row in rows)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
        if len(rows) < _AT_ONCE:
            return
        before = rows[-1].seq


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
