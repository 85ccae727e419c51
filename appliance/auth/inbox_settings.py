"""The settings of an inbox address, as an administrator gives them in JSON. Pure.

Every name, type and bound is checked when an address is made or changed, so that nothing about them
can fail when a sender comes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from appliance.auth.signatures import header, standard
from appliance.auth.signatures.clocks import TOLERANCE_SECONDS
from appliance.auth.signatures.header import HeaderScheme
from appliance.auth.signatures.kinds import KINDS, Check, FixedAnswer, SenderKind
from appliance.auth.signatures.macs import HASHES, Encoding
from appliance.errors import InputError
from appliance.model import grants
from appliance.model import meta as metas
from appliance.model.json_path import JsonPath

#: Checks of an address that a sender can make with a POST; each is answered as it wants.
CHALLENGES: Final = ("none", "slack", "json", "zoom")
#: What is done with a message whose signature is wrong.
ON_INVALID: Final = ("reject", "quarantine")

_MAX_TOLERANCE: Final = 7 * 86400
_MAX_SECRET: Final = 1024
_MAX_SECRETS: Final = 10
_MAX_KEPT: Final = 32
_MAX_ORIGINS: Final = 32
_MAX_TEXT: Final = 2048
_MAX_ANSWER_BODY: Final = 4096

_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]{1,255}|\*", re.ASCII)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxSettings:
    """What an address can be told. The names are those of the JSON."""

    # how it is signed, for the kind hmac
    header: str | None = None
    prefix: str = ""
    encoding: str = Encoding.HEX.value
    hash: str = HASHES[0]
    template: str = "{body}"
    timestamp_header: str | None = None
    secret_encoding: str | None = None
    # what is checked
    tolerance: int = TOLERANCE_SECONDS
    public_url: str | None = None
    on_invalid: str = ON_INVALID[0]
    # what identifies and accompanies a message
    key_header: str | None = None
    key_path: str | None = None
    keep: tuple[str, ...] = ()
    # what is answered
    answer: FixedAnswer | None = None
    redirect: str | None = None
    challenge: str | None = None
    origins: tuple[str, ...] = ()
    allow_get: bool = False
    # how much is taken
    rate: str | None = None


_NAMES: Final = tuple(field.name for field in fields(InboxSettings))
_HMAC_ONLY: Final = (
    "header",
    "prefix",
    "encoding",
    "hash",
    "template",
    "timestamp_header",
    "secret_encoding",
)


class InboxRules:
    """How an address treats what it gets: its kind and its settings, ready to use."""

    def __init__(self, kind: SenderKind, settings: InboxSettings) -> None:
        self.kind = kind
        self.settings = settings
        self._scheme = _scheme(settings) if kind.name == "hmac" else None
        #: checks a signature; None where nothing is signed
        self.check: Check | None = self._scheme.verify if self._scheme else kind.check
        self.tolerance = float(settings.tolerance)
        named = (settings.key_header.encode(),) if settings.key_header else ()
        #: headers that hold the sender's own id of an event, the first one that is there counts
        self.key_headers = named or kind.key_headers
        path = settings.key_path or (None if named else kind.key_path)
        #: where the body holds it; None: nowhere
        self.key_path = JsonPath(path) if path else None
        self.kept_headers = (*kind.kept_headers, *(name.encode() for name in _kept_of(settings)))
        signed = (settings.header, settings.timestamp_header)
        #: headers that a later check of the signature needs, beside those that are always kept
        self.signed_headers = tuple(name for name in signed if name)
        self.answer = settings.answer or kind.answer
        self.challenge = settings.challenge or kind.challenge

    def check_secret(self, secret: str) -> str:
        """Return a secret that a sender signs with. Raises InputError; the words don't hold it."""
        if self.check is None:
            raise InputError(f"the kind {self.kind.name} checks no signature, so it has no secret")
        if not secret or len(secret) > _MAX_SECRET or not secret.isprintable():
            raise InputError(f"a secret has 1 to {_MAX_SECRET} printable characters")
        if self.kind.name == "standard" and standard.key_of(secret) is None:
            raise InputError("a secret of the kind standard is base64, with or without whsec_")
        if self._scheme and self._scheme.key(secret) is None:
            raise InputError(f"the secret is not {self.settings.secret_encoding}")
        return secret

    def check_secrets(self, secrets: tuple[str, ...]) -> tuple[str, ...]:
        """Return all secrets of an address. Raises InputError."""
        if self.check is not None and not secrets:
            raise InputError(
                f"the kind {self.kind.name} needs the secret that the sender signs with"
            )
        if len(secrets) > _MAX_SECRETS:
            raise InputError(f"an address has at most {_MAX_SECRETS} secrets")
        return tuple(self.check_secret(secret) for secret in secrets)


def rules(kind_name: object, values: object) -> InboxRules:
    """Return what a kind and settings from JSON mean. Raises InputError, naming the setting."""
    kind = KINDS.get(kind_name) if isinstance(kind_name, str) else None
    if kind is None:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}")
    if not isinstance(values, Mapping):
        raise InputError("settings: expected an object")
    for name, value in values.items():
        if name not in _NAMES:
            raise InputError(f"settings: no such name {str(name)[:50]!r}")
        if name in _HMAC_ONLY and kind.name != "hmac" and value is not None:
            raise InputError(f"settings.{name}: only the kind hmac has this")
    given = {name: _READERS[name](name, value) for name, value in values.items()}
    settings = InboxSettings(**{name: value for name, value in given.items() if value is not None})
    _check_together(kind, settings)
    return InboxRules(kind, settings)


def _kept_of(settings: InboxSettings) -> list[str]:
    """Return the headers that the settings name: those to keep, and those that are looked at."""
    looked_at = (settings.header, settings.timestamp_header, settings.key_header)
    return [*settings.keep, *(name for name in looked_at if name)]


def _check_together(kind: SenderKind, settings: InboxSettings) -> None:
    if kind.name == "hmac":
        if settings.header is None:
            _fail("header", "the kind hmac needs the name of the header that has the signature")
        try:
            header.check_template(
                settings.template, has_timestamp=settings.timestamp_header is not None
            )
        except ValueError as error:
            raise InputError(f"settings.template: {error}") from error
    if settings.redirect and kind.name != "form":
        _fail("redirect", "only the kind form redirects")
    if settings.redirect and settings.answer:
        _fail("redirect", "give either this or an answer")
    if settings.challenge == "zoom" and kind.name != "hmac":
        _fail("challenge", "zoom is answered with the secret of the kind hmac")
    if settings.allow_get and kind.is_signed:
        _fail("allow_get", "a signed request is a POST")


def _scheme(settings: InboxSettings) -> HeaderScheme:
    encoding = settings.secret_encoding
    time_header = settings.timestamp_header
    return HeaderScheme(
        (settings.header or "").encode(),
        prefix=settings.prefix.encode(),
        encoding=Encoding(settings.encoding),
        algorithm=settings.hash,
        template=settings.template,
        timestamp_header=time_header.encode() if time_header else None,
        secret_encoding=Encoding(encoding) if encoding else None,
    )


def _fail(name: str, expected: str) -> NoReturn:
    raise InputError(f"settings.{name}: {expected}")


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not _PRINTABLE.fullmatch(value):
        _fail(name, f"expected a text of at most {_MAX_TEXT} printable ASCII characters")
    return value


def _header(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None and not _HEADER_NAME.fullmatch(text := text.lower()):
        _fail(name, "expected the name of a header")
    return text


def _word(*words: str) -> Any:
    def read(name: str, value: object) -> str | None:
        if value is not None and value not in words:
            _fail(name, f"expected one of {', '.join(words)}")
        return value if isinstance(value, str) else None

    return read


def _seconds(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_TOLERANCE:
        _fail(name, f"expected whole seconds from 1 to {_MAX_TOLERANCE}")
    return value


def _rate(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None:
        try:
            grants.rate(text)
        except InputError as error:
            raise InputError(f"settings.{error}") from error
    return text


def _flag(name: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        _fail(name, "expected true or false")
    return value


def _url(name: str, value: object) -> str | None:
    """Read an address of the web, without anything that a browser would run."""
    text = _text(name, value)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or not text.startswith(("http://", "https://")) or " " in text:
        _fail(name, "expected an address that begins with https:// or http://")
    return text


def _path(name: str, value: object) -> str | None:
    text = _text(name, value)
    if text is not None:
        try:
            JsonPath(text)
        except ValueError as error:
            _fail(name, str(error))
    return text


def _kept(name: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _MAX_KEPT:
        _fail(name, f"expected a list of at most {_MAX_KEPT} names of headers")
    names = tuple(text for each in value if (text := _header(name, each)))
    if secret := next((each for each in names if not metas.may_be_kept(each)), None):
        _fail(name, f"{secret} is never kept")
    return names


def _origins(name: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _MAX_ORIGINS:
        _fail(name, f"expected a list of at most {_MAX_ORIGINS} origins")
    for each in value:
        if not isinstance(each, str) or not _ORIGIN.fullmatch(each):
            _fail(name, "expected origins such as https://example.com, in lower case, or *")
    return tuple(value)


def _answer(name: str, value: object) -> FixedAnswer | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) - {"status", "content_type", "body"}:
        _fail(name, "expected an object of status, content_type and body")
    status, body = value.get("status", 200), value.get("body", "")
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 299:
        _fail(f"{name}.status", "expected a whole number from 200 to 299")
    if not isinstance(body, str):
        _fail(f"{name}.body", "expected a text")
    try:
        encoded = body.encode()
    except UnicodeEncodeError:
        _fail(f"{name}.body", "expected a text")
    if len(encoded) > _MAX_ANSWER_BODY:
        _fail(f"{name}.body", f"expected at most {_MAX_ANSWER_BODY} bytes")
    if encoded and status in (204, 205):
        _fail(f"{name}.body", f"an answer {status} has none")
    content_type = _text(f"{name}.content_type", value.get("content_type"))
    if content_type is None:
        content_type = "text/plain; charset=utf-8" if body else ""
    return FixedAnswer(status, content_type, encoded)


_READERS: Final[dict[str, Any]] = {
    "header": _header,
    "prefix": _text,
    "encoding": _word(*(each.value for each in Encoding)),
    "hash": _word(*HASHES),
    "template": _text,
    "timestamp_header": _header,
    "secret_encoding": _word(*(each.value for each in Encoding)),
    "tolerance": _seconds,
    "public_url": _url,
    "on_invalid": _word(*ON_INVALID),
    "key_header": _header,
    "key_path": _path,
    "keep": _kept,
    "answer": _answer,
    "redirect": _url,
    "challenge": _word(*CHALLENGES),
    "origins": _origins,
    "allow_get": _flag,
    "rate": _rate,
}
