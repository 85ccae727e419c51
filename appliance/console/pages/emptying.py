"""Emptying a topic: the question with its numbers, the name typed, and how far it has come."""

import time

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.parts import ConsoleParts
from appliance.console.refresh import again_while
from appliance.console.rights import needs
from appliance.errors import BackupError
from appliance.model.ids import is_id
from appliance.store.deletion_rows import DONE, Selection
from appliance.store.rows import Topic


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/topics/{topic}/empty and /console/deletions/{id}."""
    desk = parts.deletions

    @views.get("/topics/<topic>/empty")
    @needs(Right.ADMIN)
    def ask_to_empty(topic: str) -> str:
        return _question(parts, topic, wrong=False)

    @views.post("/topics/<topic>/empty")
    @needs(Right.ADMIN)
    def empty_topic(topic: str) -> AnyResponse | str:
        if request.form.get("typed") != topic or _find(parts, topic) is None:
            return _question(parts, topic, wrong=True)
        row = desk.ask(Selection(topic=topic), acting())
        return redirect(url_for("console.show_deletion", deletion_id=row.id), 303)

    @views.get("/deletions/<deletion_id>")
    @needs(Right.ADMIN)
    def show_deletion(deletion_id: str) -> Response:
        row = desk.find(deletion_id) if is_id(deletion_id) else None
        if row is None:
            raise NotFound
        topic = row.selection.topic
        left = _find(parts, topic) if topic else None
        text = render_template(
            "console/deletion.html",
            row=row,
            selection=str(row.selection),
            left=left.messages if left else 0,
        )
        return again_while(text, row.status != DONE)


def _question(parts: ConsoleParts, topic: str, *, wrong: bool) -> str:
    found = _find(parts, topic)
    if found is None:
        raise NotFound
    try:
        newest = next(iter(parts.operations.backups.list_backups()), None)
        age = time.time() - newest.made_at if newest else None
        words = "There is no backup."
    except BackupError:
        age, words = None, "The folder for backups can't be read."
    return render_template(
        "console/empty_confirm.html",
        topic=found,
        backup_age=age,
        no_backup=words,
        wrong=wrong,
    )


def _find(parts: ConsoleParts, topic: str) -> Topic | None:
    """Return the counters of one topic; None where it never had a message."""
    if "*" in topic:
        return None
    return next(iter(parts.reader.topics(limit=1, patterns=[topic])), None)
