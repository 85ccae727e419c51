"""The system: processes, checks, backups, settings, storage. For administrators."""

import time
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from appliance.auth.principal import Right
from appliance.console.acting import acting
from appliance.console.parts import ConsoleParts
from appliance.console.refresh import again_while
from appliance.console.rights import needs
from appliance.errors import BackupError, StoreError
from appliance.machine import disk_space
from appliance.operations.chore import Chore
from appliance.proofs import proof_book
from appliance.store.access_rows import Deed

#: The pages, by the name of their view.
_TABS: Final = (
    ("show_system", "Processes"),
    ("show_logs", "Logs"),
    ("show_checks", "Checks"),
    ("show_backups", "Backups"),
    ("show_settings", "Settings"),
    ("show_storage", "Storage"),
)
#: The sentence that says what a restart means, by the beginning of a process's name.
_MEANING: Final = {
    "api": "Requests that are under way are answered first; new ones wait a second or two.",
    "broker": "Posts wait up to 5 seconds, then they are refused with 503 until it is back.",
    "worker": "Another worker takes over at once; messages wait in the queue meanwhile.",
    "janitor": "Retention, checkpoints and scheduled backups wait until it is back.",
    "deliver": "Messages wait for their endpoints until it is back; some may come twice.",
    "listener": "Hung programs are not noticed until it is back, a second later.",
}


@dataclass(frozen=True)
class Account:
    """Whether every envelope that was accepted is accounted for, as the last check found it."""

    envelopes: int
    missing: int
    at: str


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/system and the addresses below it."""
    _serve_processes(views, parts)
    _serve_checks(views, parts)
    _serve_backups(views, parts)

    @views.get("/system/settings")
    @needs(Right.ADMIN)
    def show_settings() -> str:
        return system_page("settings.html", settings=parts.operations.settings())

    @views.get("/system/storage")
    @needs(Right.ADMIN)
    def show_storage() -> str:
        try:
            disks = disk_space.disks(parts.config)
        except StoreError:
            disks = []
        return system_page(
            "storage.html",
            totals=parts.reader.totals(),
            details=parts.reader.details(),
            engine=parts.reader.engine,
            disks=disks,
            quarantine=parts.dead_letters.quarantine(),
            config=parts.config,
        )


def system_page(template: str, **values: Any) -> str:
    """Return a page of the system, with the tabs that lead to the others."""
    return render_template(f"console/{template}", tabs=_TABS, **values)


def _serve_processes(views: Blueprint, parts: ConsoleParts) -> None:
    operations = parts.operations

    @views.get("/system")
    @needs(Right.ADMIN)
    def show_system() -> str:
        told = request.args.get("told", "")
        processes = parts.processes()
        return system_page(
            "system.html",
            processes=processes,
            account=_account(operations.verify),
            told=told if told in {each.name for each in processes} else None,
        )

    @views.post("/system/restart")
    @needs(Right.ADMIN)
    def restart_process() -> AnyResponse | str:
        name = request.form.get("name", "")
        process = next((each for each in parts.processes() if each.name == name), None)
        if process is None:
            raise NotFound
        if "sure" not in request.form:
            words = _MEANING.get(name.partition(":")[0].partition("@")[0], "It is started again.")
            return system_page("restart_confirm.html", process=process, words=words)
        if not operations.restart(name):
            raise NotFound
        parts.access.record(Deed(acting(), "process-restart", name))
        return redirect(url_for("console.show_system", told=name), 303)


def _serve_checks(views: Blueprint, parts: ConsoleParts) -> None:
    operations = parts.operations

    @views.get("/system/checks")
    @needs(Right.ADMIN)
    def show_checks() -> Response:
        doctor, verify = operations.doctor, operations.verify
        text = system_page(
            "checks.html",
            doctor=doctor.last,
            doctor_running=doctor.running,
            verify=verify.last,
            verify_running=verify.running,
            account=_account(verify),
        )
        return _again(text, doctor, verify)

    @views.post("/system/checks")
    @needs(Right.ADMIN)
    def begin_check() -> AnyResponse:
        if request.form.get("check") == "verify":
            if operations.verify.begin(acting().name):
                parts.access.record(Deed(acting(), "verify", "database"))
        else:
            operations.doctor.begin(acting().name)
        return redirect(url_for("console.show_checks"), 303)


def _serve_backups(views: Blueprint, parts: ConsoleParts) -> None:
    desk = parts.operations.backups

    @views.get("/system/backups")
    @needs(Right.ADMIN)
    def show_backups() -> Response:
        text = system_page(
            "backups.html",
            backups=desk.list_backups(),
            running=desk.making.running,
            last=desk.making.last,
            every=parts.config.backup_every,
            keep=parts.config.backup_keep,
            folder=desk.folder,
            now=time.time(),
            proof=proof_book.read(parts.config),
        )
        return _again(text, desk.making)

    @views.post("/system/backups")
    @needs(Right.ADMIN)
    def make_backup() -> AnyResponse:
        if desk.making.begin(acting().name):
            parts.access.record(Deed(acting(), "backup-make", "database"))
        desk.making.wait(1.0)  # a small one is there at once
        return redirect(url_for("console.show_backups"), 303)

    @views.get("/system/backups/<name>")
    @needs(Right.ADMIN)
    def download_backup(name: str) -> Response:
        file = desk.open(name)
        if file is None:
            raise NotFound
        try:
            parts.access.record(Deed(acting(), "backup-download", name))
        except StoreError as error:
            file.close()
            raise BackupError("the audit trail can't be written") from error
        answer = Response(iter(lambda: file.read(2**20), b""), content_type=desk.media_type)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        answer.call_on_close(file.close)
        return answer


def _account(verify: Chore) -> Account | None:
    """Return the account of the envelopes, from the last check that could make it."""
    last = verify.last
    sums = (last.result or {}).get("sources") if last is not None else None
    if last is None or not isinstance(sums, dict):
        return None
    try:
        return Account(sums["accounted"] - sums["not_kept"], sums["missing"], last.ended_at)
    except (KeyError, TypeError):  # another version wrote it
        return None


def _again(text: str, *chores: Chore) -> Response:
    """Have the browser ask again while something is under way."""
    return again_while(text, any(chore.running is not None for chore in chores))
