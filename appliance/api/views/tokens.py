"""Tokens: list, create and revoke them. The gate lets administrators in only."""

from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.json_body import read_object
from appliance.store.access_rows import TokenRow

#: Members of the JSON that asks for a token.
MEMBERS: Final = {"name": str, "rights": list, "topics": list, "expires": str, "rate": str}


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/tokens and the addresses below it."""
    views, desk = Blueprint("tokens", __name__), services.tokens

    @views.get("/v1/tokens")
    def list_tokens() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        return json_answer({"tokens": [_shown(token) for token in desk.list_tokens()]})

    @views.post("/v1/tokens")
    def create_token() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        asked = read_object(MEMBERS)
        token, secret = desk.create(
            asked.get("name", ""),
            asked.get("rights", ()),
            actor(),
            topics=asked.get("topics", ()),
            expires=asked.get("expires"),
            rate=asked.get("rate"),
        )
        answer = json_answer({**_shown(token), "token": secret}, 201)
        answer.headers["Location"] = pages.address(f"/v1/tokens/{token.name}")
        return answer

    @views.delete("/v1/tokens/<name>")
    def revoke_token(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if not desk.revoke(name, actor()):
            return problem_answer(problems.not_found("there is no token with this name"))
        return Response(status=204)

    return views


def _shown(token: TokenRow) -> dict[str, Any]:
    return token._asdict()
