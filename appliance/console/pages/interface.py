"""The API's page: every call, made from the description that programs read.

One group of calls is shown whole, the others as a list: all of them whole are too much for a page.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, render_template, request

from appliance.console.parts import ConsoleParts
from appliance.console.rights import needs
from appliance.console.shell import own_url

#: Groups of calls: how their addresses begin, and what the group is called. The first that fits
#: counts.
_GROUPS: Final = (
    ("/v1/dead-letters", "Dead letters"),
    ("/v1/endpoints", "Deliveries"),
    ("/v1/inboxes", "Inbox addresses"),
    ("/in/", "Inbox addresses"),
    ("/v1/schemas", "Schemas"),
    ("/v1/topics/{topic}/schema", "Schemas"),
    ("/v1/topics", "Messages"),
    ("/v1/messages", "Messages"),
    ("/v1/stream", "Messages"),
    ("/v1/tokens", "Access"),
    ("/v1/audit", "Access"),
    ("/v1/login-links", "Access"),
    ("/v1/", "The machine"),
    ("/", "Open to everyone"),
)
_METHODS: Final = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Call:
    """One call, with what a person wants to know of it."""

    name: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[tuple[str, str, str], ...]
    body: bool
    answers: tuple[tuple[str, str], ...]
    curl: str


def add(views: Blueprint, parts: ConsoleParts) -> None:
    """Serve /console/api."""

    @functools.lru_cache(maxsize=4)
    def page_of(url: str, server: str) -> dict[str, list[Call]]:
        return _groups(parts.interface(server), url)

    @views.get("/api")
    @needs(None)
    def show_api() -> str:
        url = own_url(parts.config.http.port)
        groups = page_of(url, request.script_root or "/")
        chosen = request.args.get("group", "")
        return render_template(
            "console/interface.html",
            groups=groups,
            chosen=chosen if chosen in groups else next(iter(groups)),
        )


def _groups(document: dict[str, Any], url: str) -> dict[str, list[Call]]:
    """Return the calls by group, in the order of the groups."""
    found: dict[str, list[Call]] = {name: [] for name in ("Messages", *dict(_GROUPS).values())}
    for path, item in document["paths"].items():
        group = next(name for begin, name in _GROUPS if path.startswith(begin))
        for method in _METHODS:
            if method in item:
                found[group].append(_call(document, path, method, item, url))
    return {name: calls for name, calls in found.items() if calls}


def _call(document: dict[str, Any], path: str, method: str, item: Any, url: str) -> Call:
    operation = item[method]
    parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
    return Call(
        name=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=operation.get("description", ""),
        parameters=tuple(
            (each["name"], each.get("description", ""), _shape(each.get("schema", {})))
            for each in parameters
        ),
        body="requestBody" in operation,
        answers=tuple(
            (status, _resolved(document, answer).get("description", ""))
            for status, answer in operation["responses"].items()
        ),
        curl=_curl(path, method, operation, url),
    )


def _shape(schema: dict[str, Any]) -> str:
    """Return in words what a parameter can be."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = schema.get("type", "text")
    if kind == "integer" and "maximum" in schema:
        return f"{schema.get('minimum', 0)} to {schema['maximum']}"
    return {"string": "text", "integer": "number"}.get(kind, str(kind))


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        place: Any = document
        for key in part["$ref"].removeprefix("#/").split("/"):
            place = place[key]
        part = place
    return part


def _curl(path: str, method: str, operation: dict[str, Any], url: str) -> str:
    """Return a line for a shell; words in capitals are to be filled in."""
    words = ["curl"]
    if operation.get("security") != []:
        words.append('-H "Authorization: Bearer $TOKEN"')
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        words.append("-d '{}'")
    elif content:
        words.append("--data-binary @FILE")
    if method not in ("get", "post") or (method == "post" and not content):
        words.append(f"-X {method.upper()}")
    filled = re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), path)
    return " ".join([*words, f"'{url}{filled}'"])
