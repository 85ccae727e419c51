"""The settings of an endpoint, as an administrator gives them in JSON. Pure.

Every name, type and bound is checked when an endpoint is made or changed, so that nothing about
them can fail when a message is to be delivered.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn

from appliance.errors import InputError
from appliance.model import endpoint_url, grants, quantities
from appliance.model.conditions import Condition, parse_condition
from appliance.model.endpoint_url import EndpointUrl

#: Conditions of one endpoint, headers that are passed on, and headers of its own.
MAX_CONDITIONS: Final = 20
MAX_PASSED: Final = 32
MAX_OWN: Final = 8
#: Requests at once.
MAX_CONCURRENCY: Final = 100
#: Seconds for one request, and until a message is given up.
MAX_TIMEOUT: Final = 60
MAX_LIFETIME: Final = 30 * 86_400
#: Characters of the value of a header of its own.
_MAX_VALUE: Final = 4096

_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE: Final = re.compile(r"[\x21-\x7e]+(?: +[\x21-\x7e]+)*")
#: Headers that the appliance or the connection writes itself, or that mean something to a proxy.
_OURS: Final = frozenset({
    "host", "connection", "content-length", "transfer-encoding", "content-type",
    "content-encoding", "accept-encoding", "te", "trailer", "upgrade", "expect", "keep-alive",
    "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature", "appliance-topic",
    "appliance-replay",
})  # fmt: skip
_REFUSED_PREFIXES: Final = ("proxy-", "sec-", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What an endpoint can be told, beside its URL and what it gets. The names are the JSON's."""

    #: one message of a topic after another; one that failed holds up its topic
    ordered: bool = False
    #: requests at once
    concurrency: int = 10
    #: requests in a time, such as 100/s; None: no limit
    rate: str | None = None
    #: seconds for one request, from the look for its address to the end of its answer
    timeout: int = 15
    #: seconds after the first attempt when a message is given up
    lifetime: int = 3 * 86_400
    #: headers with which a message came that go on with it
    headers: tuple[str, ...] = ()

    def members(self) -> dict[str, Any]:
        """Return the settings for JSON."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return shown | {"headers": list(self.headers)}


_NAMES: Final = tuple(field.name for field in fields(EndpointSettings))


def endpoint_settings(values: object) -> EndpointSettings:
    """Return what settings from JSON mean. Raises InputError, naming the setting."""
    if not isinstance(values, Mapping):
        raise InputError("settings: expected an object")
    for name in values:
        if name not in _NAMES:
            raise InputError(f"settings: no such name {str(name)[:50]!r}")
    given = {
        name: _READERS[name](name, value) for name, value in values.items() if value is not None
    }
    return EndpointSettings(**given)


def endpoint_target(value: object) -> EndpointUrl:
    """Return the parts of an endpoint's URL. Raises InputError."""
    try:
        return endpoint_url.read(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InputError(f"url: {error}") from error


def endpoint_topics(value: object) -> tuple[str, ...]:
    """Return the patterns of topics that an endpoint gets; none means all. Raises InputError."""
    if value is None:
        value = []
    if not isinstance(value, list | tuple):
        raise InputError("topics: expected a list of topics and patterns such as orders.*")
    return grants.check_patterns(value, ())


def endpoint_conditions(value: object) -> tuple[Condition, ...]:
    """Return conditions on JSON bodies, given as people write them. Raises InputError."""
    if value is None:
        value = []
    if not isinstance(value, list | tuple) or len(value) > MAX_CONDITIONS:
        raise InputError(f"where: expected a list of at most {MAX_CONDITIONS} conditions")
    conditions = []
    for each in value:
        if not isinstance(each, str):
            raise InputError("where: expected conditions such as customer.id=42")
        try:
            conditions.append(parse_condition(each))
        except ValueError as error:
            raise InputError(f"where: {each[:50]!r}: {error}") from error
    return tuple(conditions)


def own_headers(value: object) -> dict[str, str]:
    """Return headers with which each request is sent, such as Authorization. Raises InputError.

    The words of the error don't hold a value: it is a secret.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > MAX_OWN:
        raise InputError(f"own_headers: expected an object of at most {MAX_OWN} headers")
    found = {}
    for given, text in value.items():
        name = _name("own_headers", given)
        if not isinstance(text, str) or len(text) > _MAX_VALUE or not _VALUE.fullmatch(text):
            raise InputError(
                f"own_headers: the value of {name} must be 1 to {_MAX_VALUE} printable ASCII "
                "characters"
            )
        found[name] = text
    return found


def _fail(name: str, expected: str) -> NoReturn:
    raise InputError(f"settings.{name}: {expected}")


def _name(where: str, value: object) -> str:
    name = value.lower() if isinstance(value, str) else ""
    if not _HEADER_NAME.fullmatch(name):
        raise InputError(f"{where}: expected names of headers")
    if name in _OURS or name.startswith(_REFUSED_PREFIXES):
        raise InputError(f"{where}: {name} is written by the appliance itself")
    return name


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        _fail(name, "expected true or false")
    return value


def _number(least: int, most: int) -> Any:
    def read(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            _fail(name, f"expected a whole number from {least} to {most}")
        return value

    return read


def _rate(_: str, value: object) -> str:
    try:
        grants.rate(value if isinstance(value, str) else "")
    except InputError as error:
        raise InputError(f"settings.{error}") from error
    return str(value)


def _lifetime(name: str, value: object) -> int:
    """Read a number of seconds, or a span such as 3d."""
    if isinstance(value, str):
        try:
            value = int(quantities.span(value))
        except ValueError as error:
            _fail(name, str(error))
    return int(_number(0, MAX_LIFETIME)(name, value))


def _passed(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_PASSED:
        _fail(name, f"expected a list of at most {MAX_PASSED} names of headers")
    return tuple(dict.fromkeys(_name(f"settings.{name}", each) for each in value))


_READERS: Final[dict[str, Any]] = {
    "ordered": _flag,
    "concurrency": _number(1, MAX_CONCURRENCY),
    "rate": _rate,
    "timeout": _number(1, MAX_TIMEOUT),
    "lifetime": _lifetime,
    "headers": _passed,
}
