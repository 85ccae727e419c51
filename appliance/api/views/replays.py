"""Replays, for administrators: send stored messages again, to an endpoint or to a topic."""

from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.json_body import read_object
from appliance.store.replay_rows import DONE, ReplayRow

#: Members of the JSON that orders a replay.
MEMBERS: Final = {"endpoint": str, "into": str, "select": dict, "dry_run": bool}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/replays and the addresses of each replay."""
    views = Blueprint("replays", __name__)
    desk = services.replays

    @views.get("/v1/replays")
    def list_replays() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer({"replays": [*map(shown, desk.newest())]})

    @views.post("/v1/replays")
    def create_replay() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        wish = read_object(MEMBERS)
        aim = desk.read(wish)
        if wish.get("dry_run"):
            choice = desk.choose(aim)
            return json_answer(
                {
                    "dry_run": True,
                    **_aim(aim.endpoint, aim.target),
                    "select": aim.selection.members(),
                    "messages": choice.messages,
                    "complete": choice.is_complete,
                    "last_seq": choice.until,
                }
            )
        row = desk.create(aim, actor())
        answer = json_answer(shown(row), 201)
        answer.headers["Location"] = pages.address(f"/v1/replays/{row.id}")
        return answer

    @views.get("/v1/replays/<replay_id>")
    def show_replay(replay_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return _about(desk.find(replay_id), replay_id)

    @views.post("/v1/replays/<replay_id>/stop")
    def stop_replay(replay_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        read_object({})
        return _about(desk.stop(replay_id, actor()), replay_id)

    @views.post("/v1/replays/<replay_id>/resume")
    def resume_replay(replay_id: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        read_object({})
        return _about(desk.resume(replay_id, actor()), replay_id)

    return views


def shown(row: ReplayRow) -> dict[str, Any]:
    """Return a replay as JSON."""
    return {
        "id": row.id,
        **_aim(row.endpoint, row.target),
        "select": row.selection.members(),
        "state": row.state,
        "reason": row.reason or None,
        "messages": row.messages,
        "progress": _progress(row),
        "sent": row.sent,
        "waiting": row.waiting,
        "given_up": row.given_up,
        "gone": row.gone,
        "cursor": row.cursor,
        "last_seq": row.until,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
        "ended_at": row.ended_at,
        "who": row.by.name,
        "address": row.by.address,
    }


def _aim(endpoint: int | None, target: str) -> dict[str, str | None]:
    return {
        "endpoint": None if endpoint is None else target,
        "into": target if endpoint is None else None,
    }


def _progress(row: ReplayRow) -> float:
    """Return the share of what is to be looked through that is dealt with."""
    length = row.until - row.after
    if row.state == DONE or length <= 0:
        return 1.0
    return round(min(1.0, max(0.0, (row.cursor - row.after) / length)), 4)


def _about(row: ReplayRow | None, replay_id: str) -> Response:
    if row is None:
        return problem_answer(problems.not_found(f"there is no replay {replay_id[:100]}"))
    return json_answer(shown(row))
