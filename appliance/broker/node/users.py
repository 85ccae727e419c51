"""Users of our own node that others publish or subscribe by; a file in the node's folder.

The node imports them at each start, and learns of a new one at once (`control`). A publisher may
write to the exchange and nothing else: what it publishes is a message, and never one of our own
envelopes (see `broker.trust`). A subscriber may declare queues below a name of its own and bind
them to the exchanges of stored messages. It may not bind them to the exchange that is published to:
a queue that is full and refuses more would refuse each message to its publisher too. A user of
queues may declare these, which are drained as a rule, and publish by the default exchange. RabbitMQ
does not say by rights to which queues; what such a user sends to ours becomes a dead letter.

A user of the MQTT door may write to an exchange of its own, under the topics that were named or
under all, and do nothing else: it may make no queue, and so subscribe to nothing. RabbitMQ does not
bind a user to a protocol, but each protocol has its exchange here: a user of one door gets nothing
through the other.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from appliance.broker.base import EXCHANGE, MQTT, STORED, SUBSCRIBERS, USER
from appliance.broker.node.definitions import hash_password
from appliance.errors import ExistsError, InputError, LimitError, NodeError
from appliance.machine import files, locks
from appliance.model import timestamps
from appliance.model.drains import RESERVED

#: Names are part of names of queues, and of regular expressions; so they have no dot.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_QUEUE: Final = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_MOST_QUEUES: Final = 20
_SECRET_BYTES: Final = 24
_MOST_USERS: Final = 100
#: Connections and channels of one user.
_MOST_CONNECTIONS: Final = 50
_MOST_CHANNELS: Final = 200
#: The same of a user of the MQTT door, which can be that of many devices: one is a connection, and
#: on RabbitMQ 3.10 up to three channels, which it counts a little late.
_MOST_DEVICES: Final = 200
_MOST_DEVICES_CHANNELS: Final = 1000


@dataclass(frozen=True, slots=True)
class AmqpUser:
    """A user other than our own; `password_hash` is RabbitMQ's.

    `door` is `amqp` or `mqtt`. `topics` are the patterns of those that it may publish to; none of
    them: all.
    """

    name: str
    password_hash: str
    subscribes: bool
    created_at: str
    #: Queues that it may declare and publish to.
    queues: tuple[str, ...] = ()
    door: str = "amqp"
    topics: Sequence[str] = field(default_factory=list)


def read(home: Path) -> list[AmqpUser]:
    """Return the users, oldest first. Raises NodeError where their file can't be read."""
    path = _path(home)
    try:
        users = [AmqpUser(**user) for user in json.loads(path.read_text())]
        return [replace(user, queues=tuple(user.queues)) for user in users]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise NodeError(f"APPLIANCE_DATA: {path} can't be read ({error})") from error


def create(
    home: Path,
    name: str,
    *,
    subscribes: bool = False,
    queues: Sequence[str] = (),
    door: str = "amqp",
    topics: Sequence[str] = (),
) -> tuple[AmqpUser, str]:
    """Add a user to the file; return it and its password, which nobody keeps.

    Raises InputError for a name that none can have, ExistsError, LimitError, NodeError, OSError.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "a user's name has 1 to 40 characters of a-z 0-9 _ -, and begins with a-z or 0-9"
        )
    if len(queues) > _MOST_QUEUES:
        raise InputError(f"{len(queues)} queues; a user can have {_MOST_QUEUES} at most")
    for queue in queues:
        if not _QUEUE.fullmatch(queue) or queue.startswith(RESERVED):
            raise InputError(
                f"{queue}: a queue has 1 to 200 characters of A-Z a-z 0-9 . _ : -, and does not "
                "begin with appliance. or amq."
            )
    password = secrets.token_urlsafe(_SECRET_BYTES)
    hashed = hash_password(password, secrets.token_bytes(4))
    made = AmqpUser(
        name, hashed, subscribes, timestamps.now(), tuple(dict.fromkeys(queues)), door, list(topics)
    )
    with _locked(home):
        users = read(home)
        if name in (USER, *(user.name for user in users)):
            raise ExistsError(f"there is a user {name} already")
        if len(users) >= _MOST_USERS:
            raise LimitError(f"there are {_MOST_USERS} users, as many as there can be")
        _write(home, [*users, made])
    return made, password


def remove(home: Path, name: str) -> bool:
    """Take a user out of the file; return whether it was there. Raises NodeError, OSError."""
    with _locked(home):
        users = read(home)
        left = [user for user in users if user.name != name]
        if len(left) < len(users):
            _write(home, left)
        return len(left) < len(users)


def imported(users: list[AmqpUser]) -> dict[str, list[dict[str, Any]]]:
    """Return what the node imports of these users."""
    return {
        "users": [
            {
                "name": user.name,
                "password_hash": user.password_hash,
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
                "limits": _limits(user),
            }
            for user in users
        ],
        "permissions": [{"user": user.name, "vhost": "/", **_rights(user)} for user in users],
        "topic_permissions": [
            {"user": user.name, "vhost": "/", "exchange": MQTT, **_topic_rights(user)}
            for user in users
            if user.topics
        ],
    }


def _limits(user: AmqpUser) -> dict[str, int]:
    if user.door == "mqtt":
        return {"max-connections": _MOST_DEVICES, "max-channels": _MOST_DEVICES_CHANNELS}
    return {"max-connections": _MOST_CONNECTIONS, "max-channels": _MOST_CHANNELS}


def _rights(user: AmqpUser) -> dict[str, str]:
    """Return the regular expressions of what a user may configure, write to and read."""
    if user.queues:
        named = "|".join(queue.replace(".", "[.]") for queue in user.queues)
        return {"configure": f"^({named})$", "write": f"^(amq[.]default|{named})$", "read": "^$"}
    if user.door == "mqtt":
        return {"configure": "^$", "write": f"^{MQTT.replace('.', '[.]')}$", "read": "^$"}
    if not user.subscribes:
        return {"configure": "^$", "write": f"^{EXCHANGE}$", "read": "^$"}
    own, stored = (name.replace(".", "[.]") for name in (f"{SUBSCRIBERS}{user.name}.", STORED))
    return {"configure": f"^{own}", "write": f"^{own}", "read": f"^({stored}([.]match)?$|{own})"}


def _topic_rights(user: AmqpUser) -> dict[str, str]:
    """Return the regular expressions of the routing keys that a user may publish to and bind."""
    patterns = (re.escape(each).replace(r"\*", ".*") for each in user.topics)
    # Not `$`, which a line break may follow: such a name could be mapped to another topic.
    return {"write": rf"^(?:{'|'.join(patterns)})\z", "read": "^$"}


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    lock = home / "amqp-users.lock"
    with locks.held(lock, patience=None) as descriptor:
        files.give_to_owner_of(home, descriptor)
        yield


def _path(home: Path) -> Path:
    return home / "amqp-users.json"


def _write(home: Path, users: list[AmqpUser]) -> None:
    # An earlier program, started again on this folder, knows no queues, no doors and no topics.
    usual = {"queues": (), "door": "amqp", "topics": []}
    each = [{k: v for k, v in asdict(user).items() if usual.get(k) != v} for user in users]
    text = json.dumps(each, indent=1) + "\n"
    files.write_private(_path(home), text)
    files.give_to_owner_of(home, _path(home))
    files.sync(home)
