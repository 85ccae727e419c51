"""The JSON object in a request's body, for views that take one."""

from collections.abc import Mapping
from typing import Any

import orjson
from flask import request

from appliance.errors import InputError


def read_object(names: Mapping[str, type]) -> dict[str, Any]:
    """Return the members of the request's body, each of its type; those that are null are left out.

    No body at all is an object without members. Raises InputError for anything else.
    """
    body = request.get_data()
    try:
        members = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise InputError("the body is not JSON") from error
    if not isinstance(members, dict):
        raise InputError("the body is not a JSON object")
    for name, value in members.items():
        if name not in names:
            takes = f"takes {', '.join(names)}" if names else "takes none"
            raise InputError(f"unknown member {name[:50]!r}; this address {takes}")
        if value is not None and not isinstance(value, names[name]):
            raise InputError(f"{name}: expected {_WORDS[names[name]]}")
    return {name: value for name, value in members.items() if value is not None}


_WORDS = {
    str: "a text",
    list: "a list",
    dict: "an object",
    int: "a whole number",
    bool: "true or false",
}
