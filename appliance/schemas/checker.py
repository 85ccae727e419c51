"""Checks bodies against one JSON Schema; the only importer of jsonschema_rs.

Nothing is fetched: the schema is all there is. Regular expressions are those that take time in
proportion to the text, so neither a pattern nor a body can make a check endless.
"""

from typing import Any, Final

import orjson

from appliance.errors import InputError, MissingExtraError
from appliance.schemas.cost import cost_of

#: Bytes of a schema.
MAX_SCHEMA_BYTES: Final = 64 * 1024
#: Length of a body times the schema's cost: a tenth of a second at worst, measured.
_MAX_WORK: Final = 10_000_000
#: Bytes of body that are checked whatever the schema costs, and at most: to read JSON takes time
#: too.
_LEAST_BYTES: Final = 8 * 1024
_MOST_BYTES: Final = 4 * 2**20
#: Bytes of a compiled regular expression.
_REGEX_BYTES: Final = 2**20
#: Characters of an error: it is kept beside each message that is not valid.
_ERROR_LENGTH: Final = 200

_MISSING: Final = (
    "JSON Schemas need the package jsonschema-rs, which is not installed here; the image has it, "
    "elsewhere install queue-appliance[schema]"
)


class SchemaChecker:
    """A schema, ready to check bodies. Raises InputError where the schema is refused.

    `max_bytes` is the length of the longest body that is checked. Raises MissingExtraError where
    the library is not installed.
    """

    def __init__(self, text: str | bytes) -> None:
        if len(text) > MAX_SCHEMA_BYTES:
            raise InputError(f"the schema has more than {MAX_SCHEMA_BYTES} bytes")
        try:
            schema = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InputError(f"the schema is not JSON: {error}") from error
        self.max_bytes = min(max(_MAX_WORK // max(cost_of(schema), 1), _LEAST_BYTES), _MOST_BYTES)
        self._validator = _compiled(schema)

    def error(self, body: str | bytes) -> str | None:
        """Return why a body is not valid, in few words; None where it is."""
        if len(body) > self.max_bytes:
            return f"{len(body)} bytes; {self.max_bytes} at most can be checked by this schema"
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return f"not JSON ({error})"[:_ERROR_LENGTH]
        try:
            if self._validator.is_valid(value):
                return None
            self._validator.validate(value)  # the first error only: all could be millions
        except ValueError as error:
            return _words(error)
        return "is not valid"


def _words(error: Any) -> str:
    """Say what is wrong and where; no value of the body is in it."""
    where = "".join(f"/{str(step)[:40]}" for step in getattr(error, "instance_path", ())[:8])
    message = str(getattr(error, "message", f"can't be checked ({error})"))[: 4 * _ERROR_LENGTH]
    text = " ".join(f"{where or 'the body'}: {message}".split())
    clean = text.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= _ERROR_LENGTH else clean[: _ERROR_LENGTH - 3] + "..."


def _compiled(schema: Any) -> Any:
    try:
        import jsonschema_rs  # noqa: PLC0415  # an extra, and 15 MB that most never need
    except ImportError as error:
        raise MissingExtraError(_MISSING) from error
    try:
        return jsonschema_rs.validator_for(
            schema,
            offline=True,
            mask="the value",
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(
                size_limit=_REGEX_BYTES, dfa_size_limit=_REGEX_BYTES
            ),
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        first = str(getattr(error, "message", error)).split("\n", 1)[0][:300]
        hint = ""
        if '"regex"' in first or "regex" in first:
            hint = " (patterns with look-around or back-references are not taken)"
        raise InputError(f"the schema is not valid: {first}{hint}") from error
