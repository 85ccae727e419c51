"""Decides what is kept of a request beside its messages: media type, headers, sender. Pure.

A header is kept where it says what a message is or who signed it, and never where it can hold a
secret of the sender's. A plain request of the administrator's says nothing of that kind: its
messages have no meta, and cost what they cost without.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from appliance.api.http.head import Head
from appliance.auth.principal import ADMINISTRATOR, Principal
from appliance.model import meta as metas
from appliance.model.kept_headers import TELLING_NAMES, TELLING_PREFIXES

#: Headers that are kept beside such a one, and alone are no reason for a meta.
_CONTEXT: Final = frozenset({"user-agent", "origin", "referer", "date", "from"})
#: Headers that log in: never kept, not even as a signature.
_LOGINS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
#: Beginning of our own command line's User-Agent.
_CLI: Final = "appliance/"
#: Bytes of a query that are kept.
_MAX_QUERY: Final = 2048


class RequestMeta:
    """What is kept of one head; the meta itself needs the client's address too.

    `is_empty` is whether there is no meta. `headers` and `members` are what it has of the head.
    """

    __slots__ = ("_headers", "_last", "_members", "content_type", "is_empty")

    def __init__(
        self,
        content_type: str | None,
        headers: dict[str, str],
        members: dict[str, Any],
        *,
        is_empty: bool,
    ) -> None:
        self.content_type = content_type
        self.is_empty = is_empty
        self._headers = headers
        self._members = members
        self._last: tuple[str, tuple[tuple[str, Any], ...], str | None] | None = None

    @classmethod
    def of(
        cls,
        head: Head,
        principal: Principal,
        *,
        keep: Collection[str] = (),
        always: bool = False,
        query: bool = False,
        evidence: Collection[str] = (),
    ) -> "RequestMeta":
        """Return what is kept of a head.

        `keep` are further headers, in lower case, that the address chooses; a name that ends with
        `*` stands for all that begin so. `always` makes a meta even where the head says nothing.
        `query` is whether the query belongs to the message. `evidence` are headers by which a
        signature is checked again: they are kept though their names sound like a secret's.
        """
        names = TELLING_NAMES.union(keep) if keep else TELLING_NAMES
        prefixes = (*TELLING_PREFIXES, *(name[:-1] for name in keep if name.endswith("*")))
        headers: dict[str, str] = {}
        is_told = always
        for raw, value in head.headers:
            name = raw.decode("latin-1")
            is_meaningful = name in names or name.startswith(prefixes)
            if (is_meaningful or name in _CONTEXT or name in evidence) and (
                metas.may_be_kept(name) or (name in evidence and name not in _LOGINS)
            ):
                is_told |= is_meaningful
                text = metas.header_text(value)
                headers[name] = f"{headers[name]}, {text}" if name in headers else text
        agent = metas.header_text(head.values.get(b"user-agent", b""))
        is_cli = agent.startswith(_CLI)
        members = {
            "via": "cli" if is_cli else "http",
            "method": head.method.decode("ascii"),
            "query": head.query.decode("latin-1")[:_MAX_QUERY] if query and head.query else None,
        }
        return cls(
            metas.content_type(head.values.get(b"content-type")), headers, members,
            is_empty=not (is_told or is_cli or principal.name != ADMINISTRATOR.name),
        )  # fmt: skip

    def with_values(self, values: Mapping[bytes, bytes]) -> "RequestMeta":
        """Return the same for other values of headers that the head has once each."""
        headers = self._headers.copy()
        for raw, value in values.items():
            name = raw.decode("latin-1")
            if name in headers:
                headers[name] = metas.header_text(value)
        return RequestMeta(self.content_type, headers, self._members, is_empty=self.is_empty)

    def text(self, remote: str, **members: Any) -> str | None:
        """Return the meta of a request from `remote`, an IP address; None where there is none.

        `members` are further ones, such as the token's name; None: left out.
        """
        if self.is_empty:
            return None
        further = tuple(members.items())
        if self._last is not None and self._last[:2] == (remote, further):
            return self._last[2]
        text = metas.encode({**self._members, "remote": remote, **members}, self._headers)
        self._last = remote, further, text
        return text
