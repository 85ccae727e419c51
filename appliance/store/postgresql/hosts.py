"""The hosts of a URL: which of them is the primary, and which is an old one that came back.

An old primary takes writes as the one that was promoted does: nothing within it knows better. So
all hosts of the URL are asked for their timeline, now and then and before a connection is used, and
one with an older timeline than was seen is not used any more.
"""

import threading
import time
from functools import cached_property
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from appliance.errors import OldPrimaryError, StoreError
from appliance.store.postgresql import timelines
from appliance.store.postgresql.connections import PostgresConnection, connect, store_error
from appliance.store.postgresql.timelines import NewestTimelines, Timeline

_LISTS: Final = ("host", "hostaddr", "port")
#: Seconds between two looks at all hosts; of those before a connection is used.
LOOK_SECONDS: Final = 5.0
_LOOK_ANEW: Final = 1.0
#: Seconds for which a new connection waits for the answers of the other hosts: a host that is gone
#: without a word answers never, and what it says later counts from then on.
_PATIENCE: Final = 1.0
#: Seconds within which a host must answer.
_ANSWER: Final = 2

_log: Any = structlog.get_logger(__name__)


class Host(NamedTuple):
    """A host of the URL by name, and the timeline of the primary there; None: it is none."""

    name: str
    timeline: Timeline | None


class Hosts:
    """Hosts of the database at `url`, in the order in which they are tried; used by any thread.

    By its place in the URL an old primary would be tried again and again; so would one that
    answers no commit, as its standbys follow another one now. These come last. Where any of the
    `copies` will do, none is the primary, and none is asked for its timeline.
    """

    def __init__(
        self, url: str, newest: NewestTimelines | None = None, *, copies: bool = False
    ) -> None:
        self._given = self.url = url
        self._copies = copies
        self.newest = newest or NewestTimelines(None)
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._asked: dict[str, threading.Thread] = {}
        self._found: dict[str, Timeline | None] = {}

    def connect(self, *, readonly: bool) -> PostgresConnection:
        """Open a connection to the primary. Raises StoreError, and for an old one OldPrimaryError.

        The caller begins and ends transactions itself.
        """
        if self._copies:
            return connect(self.url, readonly=readonly, copies=True)
        for _ in self.singles[1:]:
            try:
                return self._connect(readonly=readonly)
            except OldPrimaryError:
                continue  # it comes last now
        return self._connect(readonly=readonly)

    def url_of_primary(self) -> str:
        """Return the URL, with old primaries last. Raises StoreError where there is no other."""
        if len(self.singles) > 1:
            self.connect(readonly=True).close()
        return self.url

    def _connect(self, *, readonly: bool) -> PostgresConnection:
        connection = connect(self.url, readonly=readonly)
        try:
            info = connection.driver.info
            connection.server = info.host, info.port
            connection.timeline = timelines.ask(connection)
            self.newest.note(connection.timeline)
            if len(self.singles) > 1:
                self.look(_PATIENCE)
            else:
                self._looked_at = time.monotonic()
            self.refuse_old(connection)
        except psycopg.Error as error:
            connection.close()
            raise store_error(error, self.url) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def is_old(self, connection: PostgresConnection) -> bool:
        """Whether a connection is to a primary whose place another one has taken."""
        if connection.timeline is None:
            return False
        self.look()
        return self.newest.is_old(connection.timeline)

    def refuse_old(self, connection: PostgresConnection) -> None:
        """Raise OldPrimaryError for a connection for which `is_old` holds."""
        timeline = connection.timeline
        if timeline is None or not self.is_old(connection):
            return
        host, port = connection.server
        self.put_last(host, port)
        raise OldPrimaryError(
            f"{host}:{port} is an old primary: its timeline is {timeline.number}, and "
            f"{self.newest.newest(timeline)} was seen; make it a standby of the new primary "
            "(pg_rewind)"
        )

    def look(self, patience: float = 0.0) -> None:
        """Ask all hosts, unless that was done some seconds ago; wait for them for `patience`.

        Of the processes of a data folder one asks for all that do not wait.
        """
        if not patience:
            if time.monotonic() - self._looked_at < LOOK_SECONDS:
                return
            if (age := self.newest.age()) < LOOK_SECONDS:
                self._looked_at = time.monotonic() - age
                return
        with self._lock:
            if time.monotonic() - self._looked_at >= (_LOOK_ANEW if patience else LOOK_SECONDS):
                self._looked_at = time.monotonic()
                for name, url in self.singles:
                    thread = self._asked.get(name)
                    if thread is None or not thread.is_alive():
                        thread = threading.Thread(target=self._ask, args=(name, url), daemon=True)
                        self._asked[name] = thread
                        thread.start()
            threads = list(self._asked.values())
        deadline = time.monotonic() + patience
        for thread in threads if patience else ():
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def found(self) -> list[Host]:
        """What the hosts answered last."""
        return [Host(*pair) for pair in sorted(self._found.items())]

    def _ask(self, name: str, url: str) -> None:
        timeline = None
        try:
            connection = connect(url, readonly=True, copies=True)
            try:
                timeline = timelines.ask(connection)
            finally:
                connection.close()
        except (psycopg.Error, StoreError) as error:
            _log.debug("host of the database not asked", host=name, error=str(error))
        self._found[name] = timeline
        self.newest.note(timeline)
        if timeline is not None:
            self.newest.freshen()

    def put_last(self, host: str, port: int) -> None:
        """Try this host after all others from now on."""
        columns, many = self._columns()
        names = columns.get("host") or columns.get("hostaddr") or []
        ports = columns.get("port") or [str(port)] * many
        order = sorted(
            range(len(names)), key=lambda place: (names[place], ports[place]) == (host, str(port))
        )
        if len(order) > 1:
            moved = {name: ",".join(each[i] for i in order) for name, each in columns.items()}
            self.url = make_conninfo(self._given, **moved)

    @cached_property
    def singles(self) -> list[tuple[str, str]]:
        """The name of each host, and the URL of the database at that host alone."""
        try:
            columns, many = self._columns()
        except psycopg.Error:  # connecting says what is wrong with the URL
            return [("", self._given)]
        found = []
        for place in range(many):
            one = {name: each[place] for name, each in columns.items()}
            url = make_conninfo(
                self._given, **one, target_session_attrs="any", connect_timeout=_ANSWER
            )
            found.append((":".join(one.values()), url))
        return found

    def _columns(self) -> tuple[dict[str, list[str]], int]:
        """Return hosts, addresses and ports of the URL, a value for each host, and their number."""
        known = conninfo_to_dict(self._given)
        lists = {name: str(known[name]).split(",") for name in _LISTS if known.get(name)}
        many = max(map(len, lists.values()), default=1)
        columns = {
            name: each * many if len(each) == 1 else each
            for name, each in lists.items()
            if len(each) in (1, many)
        }
        return columns, many
