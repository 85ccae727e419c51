"""Fits a request's messages to their topic's JSON Schema: what becomes of those it does not allow.

Checks take turns with the other requests: after some milliseconds the event loop goes on first.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from appliance.api.bodies.bad_lines import MAX_BAD, BadLine
from appliance.api.bodies.decoding import Decoded, Part
from appliance.api.bodies.plan import SINGLE
from appliance.api.publish.publish_options import PublishOptions
from appliance.errors import MisfitError
from appliance.schemas.book import OBSERVE, REJECT, SCHEMA, TopicSchema

#: Seconds of checking after which others have their turn.
_TURN_SECONDS: Final = 0.005


async def fitted(options: PublishOptions, decoded: Decoded, schema: TopicSchema) -> Decoded:
    """Return the messages with what is said of them by the schema of their topic.

    Observed ones are marked; quarantined ones, and bad ones that are to become dead letters, are in
    `bad`. Raises MisfitError where one refuses the request, RefusedError where none can be checked.
    """
    errors = await _errors(decoded, schema)
    if not errors:
        return decoded
    if schema.mode == OBSERVE:
        return _marked(decoded, errors)
    if schema.mode == REJECT and decoded.bad is None:
        place, error = errors[0]
        if options.form in SINGLE:
            raise MisfitError(f"{error}; nothing was kept")
        raise MisfitError(f"{_where(decoded, place)}: {error}; nothing of the batch was kept")
    if len(errors) > MAX_BAD:
        raise MisfitError(
            f"{len(errors)} messages don't fit the topic's schema, and a request can have "
            f"{MAX_BAD} such ones at most; the first is {_where(decoded, errors[0][0])}: "
            f"{errors[0][1]}; nothing of the batch was kept"
        )
    source = None if schema.mode == REJECT else f"topic {schema.row.topic}"
    if options.form in SINGLE:
        found = [BadLine(0, 0, SCHEMA, errors[0][1], source)]
    else:
        numbers, what = decoded.numbers(), _what(decoded)
        found = [
            BadLine(place, numbers[place], SCHEMA, f"{what} {numbers[place]}: {error}", source)
            for place, error in errors
        ]
    return decoded._replace(bad=sorted([*(decoded.bad or ()), *found]))


async def _errors(decoded: Decoded, schema: TopicSchema) -> list[tuple[int, str]]:
    """Return the places of the messages that are not valid, and why; not of those that are bad."""
    bad = {each.place for each in decoded.bad or ()}
    found = []
    turn = time.monotonic() + _TURN_SECONDS
    for place, body in enumerate(decoded.bodies):
        if place not in bad and (error := schema.error(body)):
            found.append((place, error))
        if time.monotonic() > turn:
            await asyncio.sleep(0)
            turn = time.monotonic() + _TURN_SECONDS
    return found


def _marked(decoded: Decoded, errors: Sequence[tuple[int, str]]) -> Decoded:
    parts = list(decoded.parts or [decoded.common] * len(decoded.bodies))
    for place, error in errors:
        part = parts[place]
        parts[place] = Part(
            part.content_type, {**(part.members or {}), "schema": f"invalid: {error}"}, part.key
        )
    return decoded._replace(parts=parts)


def _where(decoded: Decoded, place: int) -> str:
    return f"{_what(decoded)} {decoded.numbers()[place]}"


def _what(decoded: Decoded) -> str:
    return "line" if decoded.source else "message"
