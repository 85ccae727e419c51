"""Checks and conversions of settings: each takes a text, and raises ValueError in words.

The words follow the setting's name in an error, so they say what is expected. Pure, but for the
home folder that `~` stands for.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from appliance.model import quantities

#: The URL of a PostgreSQL database, as libpq reads it: the host can be among the parameters.
_DATABASE: Final = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#\s]*@)?[^@/?#\s]*/[^/?#\s]+(?:\?[^#\s]*)?"
)
#: Between two URLs; a comma can also be part of one, of a password for example.
_URL_SEPARATOR: Final = re.compile(r"\s*,\s*(?=[a-z]+://|,|$)")

#: Characters of an administrator's token: 128 bits, where each is one of 64.
LEAST_TOKEN: Final = 22
#: Different ones among them; of 22 made at random there are more, even of hexadecimal digits.
_LEAST_DIFFERENT: Final = 7
#: Bytes of a user's name: as many as an AMQP property has.
_MOST_NAME: Final = 255
_PUBLIC_URL: Final = re.compile(
    r"(https?)://([A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?)"
    r"((?:/[A-Za-z0-9._~!$&()*+,;=:@%-]+)*/?)"
)


class Address(NamedTuple):
    """A TCP address to listen on or to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


#: A network of IP addresses.
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PublicUrl(NamedTuple):
    """The address under which clients reach the API; `prefix` is empty or like `/inbox`."""

    scheme: str
    host: str
    prefix: str


def path(value: str) -> Path:
    """Return an absolute path; `~` is the home folder."""
    if not value:
        raise ValueError("expected a folder")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # ~NAME of nobody
        raise ValueError(f"expected a folder: {error}") from error


def optional_path(value: str) -> Path | None:
    """Return an absolute path, or None for an empty text."""
    return path(value) if value else None


def address(value: str) -> Address:
    """Return the address of `HOST:PORT` or `[IPV6]:PORT`."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", value)
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError("expected HOST:PORT, for example 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


def optional_address(value: str) -> Address | None:
    """Return the address of `HOST:PORT`, or None for an empty text or `off`."""
    return address(value) if value not in ("", "off") else None


def url(*schemes: str) -> Callable[[str], str]:
    """Return a parser of URLs with one of `schemes`, or an empty text."""

    def parse(value: str) -> str:
        if value:
            try:
                parts = urlsplit(value)
                usable = parts.scheme in schemes and parts.hostname and parts.port != 0
            except ValueError:  # no port, or no IPv6 address; the text may be secret
                usable = False
            if not usable:
                raise ValueError(f"expected {' or '.join(f'{s}://host[:port]' for s in schemes)}")
        return value.rstrip("/")

    return parse


def urls(*schemes: str) -> Callable[[str], str]:
    """Return a parser of one URL or several, separated by commas, or an empty text."""
    parse_one = url(*schemes)

    def parse(value: str) -> str:
        parts = split_urls(value)
        if not all(parts) or any("," in part.rpartition("@")[2] for part in parts):
            raise ValueError("expected whole addresses between the commas")
        return ",".join(map(parse_one, parts))

    return parse


def split_urls(value: str) -> list[str]:
    """Return the URLs in a text that `urls` parses; none in an empty one."""
    return _URL_SEPARATOR.split(value) if value else []


def database_url(value: str) -> str:
    """Return the URL of a PostgreSQL database, with one host or several; empty: none.

    The text is secret: no error repeats it.
    """
    if not value:
        return ""
    found = _DATABASE.fullmatch(value)
    if not found:
        raise ValueError("expected postgresql://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]]/DATABASE")
    return value


def names(value: str) -> tuple[str, ...]:
    """Return the names in a text that separates them by commas; none in an empty one."""
    found = tuple(name.strip() for name in value.split(",")) if value.strip() else ()
    if not all(0 < len(name.encode()) <= _MOST_NAME for name in found):
        raise ValueError(f"expected names of 1 to {_MOST_NAME} bytes, separated by commas")
    return found


def http_url(value: str) -> str:
    """Return the URL of an HTTP API; `HOST:PORT` alone means http."""
    try:
        address(value)
    except ValueError:
        return url("http", "https")(value)
    return f"http://{value}"


def webhook_url(value: str) -> str:
    """Return the URL of a webhook; empty for none."""
    if value and "@" in urlsplit(value).netloc:
        raise ValueError("expected a URL without a user name; put what is secret into its path")
    return url("http", "https")(value) if value else ""


def public_url(value: str) -> PublicUrl | None:
    """Return the address that clients use, such as `https://example.com/inbox`; None for none."""
    if not value:
        return None
    match = _PUBLIC_URL.fullmatch(value)
    if not match or not url("http", "https")(value):
        raise ValueError("expected http:// or https://, a host and perhaps a path, and no more")
    return PublicUrl(match[1], match[2], match[3].rstrip("/"))


def networks(value: str) -> tuple[Network, ...]:
    """Return the networks in a text such as `10.0.0.0/8, ::1`; an address alone is one."""
    try:
        return tuple(map(ipaddress.ip_network, re.split(r"\s*,\s*|\s+", value))) if value else ()
    except ValueError as error:
        raise ValueError(
            f"expected addresses or networks, such as 127.0.0.1, 10.0.0.0/8: {error}"
        ) from error


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or not low <= int(value) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(value)

    return parse


def one_of(*numbers: int) -> Callable[[str], int]:
    """Return a check for one of these numbers."""

    def parse(value: str) -> int:
        if value not in map(str, numbers):
            raise ValueError(f"expected one of {', '.join(map(str, numbers))}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of seconds, with three decimal places at most."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", value) or not low <= float(value) <= high:
            raise ValueError(f"expected seconds from {low} to {high}")
        return float(value)

    return parse


def span(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of spans such as `12h`, in seconds; `off` is 0."""

    def parse(value: str) -> int:
        if value in ("", "0", "off"):
            return 0
        words = f"expected a span from {low} to {high} seconds, for example 12h or 1d, or off"
        try:
            length = quantities.span(value)
        except ValueError as error:
            raise ValueError(words) from error
        if not low <= length <= high:
            raise ValueError(words)
        return length

    return parse


def size(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of sizes such as `1MiB`, in bytes."""

    def parse(value: str) -> int:
        words = f"expected a size from {low} to {high} bytes, for example 1048576 or 1MiB"
        try:
            count = quantities.size(value)
        except ValueError as error:
            raise ValueError(words) from error
        if not low <= count <= high:
            raise ValueError(words)
        return count

    return parse


def switch(value: str) -> bool:
    """Accept on or off."""
    return choice("on", "off")(value) == "on"


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of `words`."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return value

    return parse


def token(value: str) -> str:
    """Return the token of an administrator, or an empty text."""
    if value and not re.fullmatch(r"[\x21-\x7e]{1,256}", value):
        raise ValueError("expected at most 256 printable ASCII characters without spaces")
    if value and is_guessable(value):
        raise ValueError(
            f"expected {LEAST_TOKEN} characters or more, made at random, because anyone can try "
            "tokens: leave it out and one is made (`appliance token` prints it), or make one with "
            "`openssl rand -hex 16`; then give it to every sender"
        )
    return value


def is_guessable(token: str) -> bool:
    """Whether a token can't have 128 bits of chance in it."""
    return len(token) < LEAST_TOKEN or len(set(token)) < _LEAST_DIFFERENT


def any_token(value: str) -> str:
    """Return a token that a client sends: the API says whether it is the right one."""
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise ValueError("expected printable ASCII characters without spaces")
    return value
