"""Media types, as a Content-Type gives them. Pure."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from appliance.errors import InputError

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf';\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^;]*))', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

#: Types of which each line is a JSON text, under all the names that senders use:
#: application/x-ndjson, application/jsonl, application/json-lines, application/x-json-stream, ...
_NDJSON: Final = re.compile(
    r"(?:application|text)/"
    r"(?:(?:x-)?(?:nd-?json|ld-?json|json-?l|json-?lines|json-?stream)|stream\+json"
    r"|[^/;]+\+(?:x-)?(?:ndjson|jsonl))"
)
#: JSON text sequences (RFC 7464).
_JSON_SEQ: Final = re.compile(r"application/(?:x-)?json-seq|[^/;]+/[^/;]+\+json-seq")
_JSON: Final = re.compile(r"(?:application|text)/(?:x-)?json|[^/;]+/[^/;]+\+json")
#: Types that are text by what they are; `text/*` is another matter of names.
_TEXT: Final = re.compile(
    r"text/.+|application/(?:x-)?(?:xml|javascript|yaml|csv|toml|sql|graphql)|[^/;]+/[^/;]+\+(?:xml|yaml)"
)


class MediaType(NamedTuple):
    """A type like `text/plain`, and its parameters; names in lower case, empty where none came."""

    name: str
    parameters: Mapping[str, str]

    @property
    def is_ndjson(self) -> bool:
        """Whether each line is a JSON text."""
        return _NDJSON.fullmatch(self.name) is not None

    @property
    def is_json_seq(self) -> bool:
        """Whether it is a sequence of JSON texts, each begun by a record separator."""
        return _JSON_SEQ.fullmatch(self.name) is not None

    @property
    def is_json(self) -> bool:
        """Whether it is one JSON text."""
        return _JSON.fullmatch(self.name) is not None

    @property
    def is_text(self) -> bool:
        """Whether it is text, so that its charset means something."""
        return (
            _TEXT.fullmatch(self.name) is not None
            or self.is_json
            or self.is_ndjson
            or self.is_json_seq
        )

    def with_charset(self, charset: str) -> str:
        """Return the type as a Content-Type with this charset, and without other parameters."""
        return f"{self.name}; charset={charset}"


def parse_media_type(value: bytes) -> MediaType:
    """Read a Content-Type. What can't be read of its parameters is passed over.

    Raises InputError where it gives one parameter two values.
    """
    name, semicolon, rest = value.decode("latin-1").partition(";")
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(semicolon + rest):
        key, quoted, bare = match[1].lower(), match[2], match[3]
        text = bare.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
        if parameters.setdefault(key, text) != text:
            raise InputError(f"the Content-Type names {key} twice, with two values")
    return MediaType(name.strip().lower(), parameters)
