"""The shell of every page: where one can go, whether all is well, who is signed in."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flask import current_app, request, url_for

from appliance.alerts import alert_book
from appliance.auth.principal import Right
from appliance.console import session_cookie
from appliance.console.assets import asset_url
from appliance.console.parts import ConsoleParts
from appliance.console.rights import is_signed_in, principal
from appliance.errors import StoreError

#: Pages of the menu, in its order: the name of the view below the blueprint, what it is called, the
#: key that goes there after `g`, and the right without which it is not shown. A page that is not
#: there yet is left out.
_MENU: Final[tuple[tuple[str, str, str, Right], ...]] = (
    ("show_overview", "Overview", "o", Right.READ),
    ("show_messages", "Messages", "m", Right.READ),
    ("show_topics", "Topics", "t", Right.READ),
    ("show_dead_letters", "Dead letters", "d", Right.READ),
    ("show_alerts", "Alerts", "l", Right.READ),
    ("show_endpoints", "Endpoints", "e", Right.ADMIN),
    ("show_send", "Send", "s", Right.PUBLISH),
    ("show_system", "System", "y", Right.ADMIN),
)
#: The same for the menu of the token.
_MORE: Final = (
    ("show_access", "Access", "a", Right.ADMIN),
    ("show_connect", "Connect", "c", None),
    ("show_api", "API", "p", None),
)

#: A host and port as they can stand in an address and on a shell's command line.
_HOST: Final = re.compile(
    r"(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
#: Seconds for which the state holds: a page shows how it was, and the stream goes on from there.
_FRESH_SECONDS: Final = 1.0
#: Colours of the icon: two appliances in two windows look different.
HUES: Final = 12


class MenuEntry(NamedTuple):
    """An entry of a menu."""

    label: str
    url: str
    key: str
    is_here: bool
    number: int | None = None


class Pill(NamedTuple):
    """The state in the head of a page: a class of the style sheet, and sign, words, more words."""

    kind: str
    parts: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class State:
    """Whether a message sent now would be stored, and how many dead letters there are."""

    ready: bool
    reasons: list[str]
    dead_letters: int | None
    alerts: int

    def shown(self) -> Pill:
        """Return it as the head of a page shows it."""
        if self.ready:
            return Pill("ok", ("✓", "ready", ""))
        return Pill("bad", ("!", "not ready", f": {self.reasons[0]}" if self.reasons else ""))


#: The same for a page whose session has ended.
SIGNED_OUT: Final = Pill("warn", ("‖", "signed out", ""))


class Shell:
    """Knows what is around every page. One for each API process."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._state: tuple[float, State] | None = None

    def state(self) -> State:
        """Return the appliance's state, at most a second old."""
        with self._lock:
            now = time.monotonic()
            if self._state is None or now - self._state[0] > _FRESH_SECONDS:
                self._state = now, self._look()
            return self._state[1]

    def _look(self) -> State:
        readiness = self._parts.readiness()
        try:
            letters: int | None = self._parts.reader.totals().dead_letters
        except StoreError:
            letters = None
        raised = alert_book.raised(self._parts.config)
        return State(readiness.ready, readiness.reasons, letters, len(raised))

    def context(self) -> dict[str, Any]:
        """Return what every template can use."""
        host = own_host(self._parts.config.http.port)
        context: dict[str, Any] = {
            "asset": asset_url,
            "topic_url": topic_url,
            "version": self._parts.version,
            "host": host,
            "hue": hashlib.sha256(host.encode()).digest()[0] % HUES,
            "own_url": own_url(self._parts.config.http.port),
            "here": here(),
            "local_time": request.cookies.get("appliance_time") == "local",
            "keys_off": request.cookies.get("appliance_keys") == "off",
            "dense": request.cookies.get("appliance_dense") == "on",
            "signed_in": is_signed_in(),
            "csrf": session_cookie.form_token(),
        }
        if not is_signed_in():
            return context
        who, state = principal(), self.state()
        counts = {"show_dead_letters": state.dead_letters, "show_alerts": state.alerts}
        menu = _MENU
        if who.is_restricted:
            # Both numbers tell of topics that are hidden, and so do the alerts.
            counts, menu = {}, tuple(each for each in _MENU if each[0] != "show_alerts")
        return context | {
            "state": state,
            "me": who,
            "may": {right.value: who.may(right) for right in Right},
            "menu": _places(menu, who.may, counts),
            "more": _places(_MORE, who.may, {}),
        }


def topic_url(topic: str) -> str:
    """Return the address of a topic's messages."""
    if "console.show_topic" in current_app.view_functions:
        return url_for("console.show_topic", topic=topic)
    return url_for("console.show_topics", part=topic)


def here() -> str:
    """Return the path and query of the page that is shown, as `to` of a form takes it."""
    query = request.query_string.decode("ascii", "replace")
    return request.path + (f"?{query}" if query else "")


def own_host(port: int) -> str:
    """Return the host that the browser asked; a local one if the header Host is hostile."""
    host = request.headers.get("Host", "")
    return host if _HOST.fullmatch(host) else f"localhost:{port}"


def own_url(port: int) -> str:
    """Return the address of the API as the browser reaches it."""
    host = own_host(port)
    scheme = request.scheme if host == request.headers.get("Host") else "http"
    return f"{scheme}://{host}{request.script_root}"


def _places(
    entries: tuple[tuple[str, str, str, Right | None], ...],
    may: Callable[[Right], bool],
    counts: dict[str, int | None],
) -> list[MenuEntry]:
    """Return the entries whose pages are there, for who has the rights they need."""
    found = []
    for view, label, key, right in entries:
        endpoint = f"console.{view}"
        if endpoint in current_app.view_functions and (right is None or may(right)):
            url = url_for(endpoint)
            is_here = request.path == url.removeprefix(request.script_root)
            found.append(MenuEntry(label, url, key, is_here, counts.get(view)))
    return found
