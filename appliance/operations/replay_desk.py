"""The replay desk takes orders to send stored messages again; each is checked whole, then stored.

Whoever does the work, the process that delivers or a worker, sees an order within a second.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from appliance.errors import InputError
from appliance.model import moments, timestamps
from appliance.model.endpoint_settings import endpoint_conditions, endpoint_topics
from appliance.model.ids import IdSource, is_id
from appliance.model.search_words import parse_words
from appliance.model.topics import CANARY_TOPIC, check_topic
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoints import Endpoints
from appliance.store.filters import KINDS
from appliance.store.replay_rows import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    ReplayChoice,
    ReplayRow,
    ReplaySelection,
)
from appliance.store.replays import Replays

#: Members of a selection, each with its type.
SELECT: Final = {
    "topics": list, "where": list, "kind": str, "q": str, "since": str, "until": str,
    "first_seq": int, "last_seq": int, "sql": str,
}  # fmt: skip
#: Characters of a full-text search.
_MAX_SEARCH: Final = 1000
_MAX_NUMBER: Final = 2**63 - 1
#: Replays that are listed.
_LISTED: Final = 100
_WORDS: Final = {str: "a text", list: "a list", int: "a whole number"}


class ReplayAim(NamedTuple):
    """What is to be sent again, and where to: an endpoint by its number, or a topic (None)."""

    target: str
    endpoint: int | None
    selection: ReplaySelection


class ReplayDesk:
    """Used by any thread of the API. Methods raise what the store does."""

    def __init__(self, replays: Replays, endpoints: Endpoints) -> None:
        self._replays = replays
        self._endpoints = endpoints
        self._ids = IdSource()

    def read(self, wish: Mapping[str, Any]) -> ReplayAim:
        """Return what a wish with the members `endpoint` or `into`, and `select`, means.

        To an endpoint go the topics that it gets, under its conditions, unless topics are named.
        Raises InputError.
        """
        name, topic = wish.get("endpoint"), wish.get("into")
        if (name is None) == (topic is None):
            raise InputError("name the endpoint that gets the messages again, or into which topic")
        selection = replay_selection(wish.get("select") or {})
        if topic is not None:
            if check_topic(topic) == CANARY_TOPIC:
                raise InputError(f"into: {CANARY_TOPIC} is the appliance's own; choose another")
            return ReplayAim(topic, None, selection)
        endpoint = self._endpoints.find(str(name))
        if endpoint is None:
            raise InputError(f"endpoint: there is no endpoint {str(name)[:100]}")
        if selection.topics is None and selection.sql is None:
            members = selection.members() | {"topics": list(endpoint.topics)}
            members["where"] = [*endpoint.where, *selection.where]
            selection = replay_selection(members)
        return ReplayAim(endpoint.name, endpoint.id, selection)

    def choose(self, aim: ReplayAim) -> ReplayChoice:
        """Return what a selection comes to now."""
        return self._replays.choose(aim.selection)

    def create(self, aim: ReplayAim, by: Actor) -> ReplayRow:
        """Order that the messages are sent again; return the replay."""
        choice = self.choose(aim)
        if not choice.messages and choice.is_complete:
            raise InputError("select: no stored message is selected, so there is nothing to replay")
        now = timestamps.now()
        row = ReplayRow(
            id=self._ids.new(), target=aim.target, endpoint=aim.endpoint, selection=aim.selection,
            after=choice.after, until=choice.until, cursor=choice.after,
            messages=choice.messages if choice.is_complete else None,
            created_at=now, changed_at=now, by=by,
        )  # fmt: skip
        kind = "the topic" if aim.endpoint is None else "the endpoint"
        words = f"to {kind} {aim.target}: {aim.selection}"
        return self._replays.create(row, choice, Deed(by, "replay-create", row.id, words))

    def find(self, replay_id: str) -> ReplayRow | None:
        """Return the replay with this id, or None."""
        return self._replays.find(replay_id) if is_id(replay_id) else None

    def newest(self) -> list[ReplayRow]:
        """Return the newest replays."""
        return self._replays.newest(_LISTED)

    def stop(self, replay_id: str, by: Actor) -> ReplayRow | None:
        """Stop a replay, if it is running; return it, or None where there is none."""
        if not is_id(replay_id):
            return None
        deed = Deed(by, "replay-stop", replay_id)
        return self._replays.set_state(replay_id, RUNNING, STOPPED, deed)

    def resume(self, replay_id: str, by: Actor) -> ReplayRow | None:
        """Let a stopped replay go on; return it, or None where there is none."""
        if not is_id(replay_id):
            return None
        deed = Deed(by, "replay-resume", replay_id)
        row = self._replays.set_state(replay_id, STOPPED, RUNNING, deed)
        if row is not None and row.state in (DONE, FAILED):
            raise InputError(f"the replay {replay_id} is {row.state} and can't go on; make another")
        return row


def replay_selection(members: Mapping[str, Any]) -> ReplaySelection:
    """Return the selection that these members ask for. Raises InputError, naming the member."""
    given = {name: value for name, value in members.items() if value is not None}
    for name, value in given.items():
        if name not in SELECT:
            raise InputError(
                f"select: unknown member {str(name)[:50]!r}; it takes {', '.join(SELECT)}"
            )
        if not isinstance(value, SELECT[name]) or isinstance(value, bool):
            raise InputError(f"select.{name}: expected {_WORDS[SELECT[name]]}")
    if "sql" in given and len(given) > 1:
        raise InputError("select.sql: a query selects alone; write the rest into it")
    try:
        return _selection(given)
    except InputError as error:
        raise InputError(f"select.{error}") from error


def _selection(given: dict[str, Any]) -> ReplaySelection:
    first, last = (_place(name, given.get(name)) for name in ("first_seq", "last_seq"))
    if first is not None and last is not None and first > last:
        raise InputError("last_seq: expected first_seq or more")
    if (kind := given.get("kind")) not in (None, *KINDS):
        raise InputError(f"kind: expected one of {', '.join(KINDS)}")
    if len(words := given.get("q") or "") > _MAX_SEARCH or not _is_unicode(words):
        raise InputError(f"q: expected at most {_MAX_SEARCH} characters")
    if words and parse_words(words) is None:
        raise InputError("q: there is no word in it to search for")
    return ReplaySelection(
        topics=endpoint_topics(given["topics"]) if given.get("topics") else None,
        where=tuple(map(str, endpoint_conditions(given.get("where")))),
        kind=kind,
        q=words or None,
        since=moments.moment("since", given.get("since")),
        until=moments.moment("until", given.get("until")),
        first_seq=first,
        last_seq=last,
        sql=given.get("sql"),
    )


def _place(name: str, value: int | None) -> int | None:
    if value is not None and not 1 <= value <= _MAX_NUMBER:
        raise InputError(f"{name}: expected the seq of a message")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
