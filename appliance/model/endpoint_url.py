"""The URL of an endpoint, read strictly: two readings of one text are a way around checks.

What is checked here is what is connected to: the host and the port come from these parts and from
nowhere else. Pure.
"""

import ipaddress
import re
from typing import Final, NamedTuple

#: Characters of the longest URL.
LONGEST: Final = 2048
#: Ports of services that can be talked into something by an HTTP request, as browsers refuse them.
REFUSED_PORTS: Final = frozenset(
    (
        22,
        23,
        25,
        53,
        110,
        111,
        135,
        139,
        143,
        389,
        445,
        465,
        512,
        513,
        514,
        587,
        636,
        993,
        995,
        2049,
    )
)  # fmt: skip

#: Visible ASCII without what RFC 3986 has to be escaped, and without the backslash.
_CHARACTERS: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_PARTS: Final = re.compile(r"(?i:(https?))://([^/?#]*)([^#]*)(#.*)?")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_PORTS: Final = {"http": 80, "https": 443}


class EndpointUrl(NamedTuple):
    """`target` is the path with the query, as the request line has it."""

    scheme: str
    host: str  # in lower case; an IPv6 address without its brackets
    port: int
    target: str

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read(text: str) -> EndpointUrl:
    """Return the parts of a URL. Raises ValueError, in words for who wrote it."""
    if len(text) > LONGEST:
        raise ValueError(f"a URL has at most {LONGEST} characters")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ValueError("a URL begins with https:// or http://")
    if not _CHARACTERS.fullmatch(text):
        raise ValueError(
            "a URL is visible ASCII: write other characters of its path as %XX, and a host as xn--"
        )
    scheme, authority, target, fragment = parts[1].lower(), parts[2], parts[3], parts[4]
    if "@" in authority:
        raise ValueError("a URL must hold no user and no password: use a header of the endpoint")
    if fragment is not None:
        raise ValueError("a URL must have no fragment (#...): it is never sent")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise ValueError("a URL needs a host, and a port of digits where it has one")
    port = int(found[2]) if found[2] else _PORTS[scheme]
    if not 0 < port < 65536 or port in REFUSED_PORTS:
        raise ValueError(f"port {port} is not one for HTTP")
    return EndpointUrl(scheme, _host(found[1]), port, _target(target))


def _host(text: str) -> str:
    host = text.lower()
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{text} is no IPv6 address") from None
    if re.fullmatch(r"[0-9.]+|0x[0-9a-f]+", host.rpartition(".")[2]):
        # Systems read 127.1 and 0x7f.1 as addresses, too.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{text} is no host: write an IPv4 address as four numbers") from None
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{text} is no host's name")
    return ".".join(labels)


def _target(text: str) -> str:
    if not text.startswith("/"):
        text = f"/{text}"
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("% in a URL begins two hexadecimal digits; write %25 for the sign itself")
    return text
