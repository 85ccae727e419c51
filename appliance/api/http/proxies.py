"""Requests that come through a proxy: the client behind it, and the address that the client asked.

Anyone can write `X-Forwarded-For` into a request, so such headers count only where the connection
comes from a proxy that is trusted (APPLIANCE_TRUSTED_PROXIES). They are looked at when a request
asks, never remembered with its head: two clients can send the same bytes.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.api.http.head import Head
from appliance.config.parsers import Network, PublicUrl

#: Proxies in a row that are looked through; a header can name thousands.
_MAX_HOPS: Final = 16
#: What an IPv4 client's address begins with on a socket of both families.
_MAPPED: Final = "::ffff:"
#: Bytes of a forwarded prefix.
_MAX_PREFIX: Final = 200

#: A host and port as they can stand in an address and on a shell's command line.
_HOST: Final = re.compile(
    r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&()*+,;=:@%-]+)*")
#: An address in such a header: bare, with a port, or in brackets.
_NODE: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9A-Fa-f:.]+)")
#: A pair of `Forwarded` (RFC 7239, 4).
_PAIR: Final = re.compile(r'\s*([A-Za-z-]+)=(?:"([^"\\]*)"|([^\s;,"]*))\s*')


class Origin(NamedTuple):
    """The address under which a client reaches this server: `https`, `example.com`, `/inbox`.

    `host` has a port where it isn't the scheme's own, and is empty where the client named none that
    can stand in an address. `prefix` is empty, or begins with a slash and doesn't end with one.
    """

    scheme: str
    host: str
    prefix: str

    @property
    def url(self) -> str:
        """The same as one text; without a host, the prefix alone."""
        return f"{self.scheme}://{self.host}{self.prefix}" if self.host else self.prefix


class Proxies:
    """The proxies that are trusted, and the address that was set for the outside."""

    def __init__(self, trusted: tuple[Network, ...] = (), public: PublicUrl | None = None) -> None:
        self._trusted = trusted
        self._public = Origin(*public) if public else None
        #: the prefix where no trusted proxy says another one
        self.prefix = public.prefix if public else ""

    def trust(self, peer: str) -> bool:
        """Whether the connections of this address are those of a trusted proxy."""
        return bool(self._trusted) and self._is_trusted(peer)

    def client(self, peer: str, head: Head) -> str:
        """Return the address of the client behind `peer`, which is trusted.

        That is the last one in `X-Forwarded-For`, else in `Forwarded`, that is no trusted proxy's:
        whatever stands before it was written by that client. It is the last proxy's own address
        where that says nothing more.
        """
        client = peer
        for hop, (node, _) in enumerate(_hops(head)):
            address = _address(node)
            if not address or hop == _MAX_HOPS:
                break
            client = address
            if not self._is_trusted(client):
                break
        return client

    def origin(self, head: Head, *, is_trusted: bool, is_tls: bool) -> Origin:
        """Return the address that the client of a request asked."""
        if self._public:
            return self._public
        scheme, host, prefix = "https" if is_tls else "http", _text(head, b"host"), ""
        if is_trusted:
            _, pairs = next(_hops(head), ("", {}))
            named = _first(head, b"x-forwarded-proto") or pairs.get("proto", "")
            if named.lower() in ("http", "https"):
                scheme = named.lower()
            host = _first(head, b"x-forwarded-host") or pairs.get("host", "") or host
            prefix = _prefix(_text(head, b"x-forwarded-prefix"))
        return Origin(scheme, host if _HOST.fullmatch(host) else "", prefix)

    def prefix_of(self, head: Head) -> str:
        """Return the prefix under which the client behind a trusted proxy reaches us."""
        return self.prefix or _prefix(_text(head, b"x-forwarded-prefix"))

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)


def plain(address: str) -> str:
    """Return an address as people write it: an IPv4 one without the IPv6 form that a socket has."""
    return address.removeprefix(_MAPPED) if "." in address else address


def _hops(head: Head) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the clients that proxies saw, the nearest proxy's first, and what else it said.

    Where both headers are there, the one that proxies write counts: a client could have sent the
    other one, which a proxy that doesn't know it passes on.
    """
    if b"x-forwarded-for" in head.values:
        for node in reversed(_joined(head, b"x-forwarded-for").split(",")):
            yield node.strip(), {}
    elif b"forwarded" in head.values:
        for element in reversed(_joined(head, b"forwarded").split(",")):
            pairs = {
                match[1].lower(): match[2] or match[3] or ""
                for each in element.split(";")
                if (match := _PAIR.fullmatch(each))
            }
            yield pairs.get("for", ""), pairs


def _address(node: str) -> str:
    """Return the address in a node's name; empty where it has none, as `unknown` hasn't."""
    match = _NODE.fullmatch(node)
    try:
        return str(ipaddress.ip_address(plain(match[1] or match[2] or match[3]))) if match else ""
    except ValueError:
        return ""


def _prefix(text: str) -> str:
    prefix = text.rstrip("/")
    return prefix if len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix) else ""


def _first(head: Head, name: bytes) -> str:
    return _text(head, name).partition(",")[0].strip()


def _text(head: Head, name: bytes) -> str:
    return head.values.get(name, b"").decode("latin-1").strip()


def _joined(head: Head, name: bytes) -> str:
    return b",".join(value for each, value in head.headers if each == name).decode("latin-1")
