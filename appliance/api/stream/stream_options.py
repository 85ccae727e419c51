"""The wish of a request for a stream: the topics, the form, and where to begin."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from appliance.api.http.head import Head
from appliance.api.views import parameters
from appliance.auth.principal import Principal
from appliance.errors import InputError
from appliance.model.topics import check_topic
from appliance.store.rows import Followed

#: Fields of a query that are looked at.
_MOST_FIELDS: Final = 20
_OF_ALL: Final = ("after", "since", "all", "topic")
_OF_ONE: Final = ("after", "since", "all")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What is followed, whether each message is sent whole, and where the stream begins.

    `after` is a place, `since` a time; without both it begins with what is stored from now on.
    """

    followed: Followed
    is_whole: bool
    after: int | None
    since: str | None


def read(head: Head, topic: str | None, principal: Principal) -> StreamOptions:
    """Return what a head asks for; `topic` is None at the address of all topics.

    Whether the principal may read the topic is not looked at; of all topics, it gets those that it
    may read. Raises InputError.
    """
    patterns: list[tuple[str, ...]] = []
    if topic is not None:
        check_topic(topic)
    elif principal.is_restricted:
        patterns.append(principal.topics)
    try:
        fields = parse_qs(
            head.query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise InputError("the query has too many parameters") from error
    query = parameters.read(fields, _OF_ALL if topic is None else _OF_ONE)
    if wanted := parameters.topics(query.get("topic")):
        patterns.append(wanted)
    after = parameters.parse_seq_cursor("after", query.get("after"))
    since = parameters.moment("since", query.get("since"))
    if last := head.values.get(b"last-event-id"):
        # The client has read so far already, whatever it asked for at first.
        after = parameters.parse_seq_cursor("Last-Event-ID", last.decode("latin-1"))
        since = None
    is_whole = parameters.choice("all", query.get("all"), ("0", "1")) == "1"
    return StreamOptions(Followed(topic, tuple(patterns)), is_whole, after, since)
