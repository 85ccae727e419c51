"""The user, the permissions and the policies that our own RabbitMQ node imports at each start."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.broker.base import DEAD, QUEUE, SUBSCRIBERS, USER

#: Bounds of a queue of a subscriber's: it holds the newest messages, and a week at most. One that
#: nobody has used for a week is removed.
_SUBSCRIBER_QUEUE: Final = {
    "max-length": 100_000,
    "max-length-bytes": 32 * 2**20,
    "overflow": "drop-head",
    "message-ttl": 7 * 86_400_000,
    "expires": 7 * 86_400_000,
}


def hash_password(password: str, salt: bytes) -> str:
    """Return `password` as RabbitMQ stores it: base64 of the salt (4 bytes) and a SHA-256."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(
    password: str,
    queue_max_bytes: int,
    queue_max_envelopes: int,
    others: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """Return the definitions that the node imports at each start.

    `others` are the users and permissions of others (`node.users`).

    The limits of the queue are a policy and not arguments of the queue, because arguments could
    not be changed later.
    """
    bounds = {
        "max-length-bytes": queue_max_bytes,
        "max-length": queue_max_envelopes,
        "overflow": "reject-publish",
    }
    return {
        "users": [
            {
                "name": USER,
                "password_hash": hash_password(password, secrets.token_bytes(4)),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            },
            *others["users"],
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
            *others["permissions"],
        ],
        "policies": [
            # A message that is given up stays in its queue until the other queue has it on disk.
            _policy(
                USER,
                QUEUE,
                {
                    **bounds,
                    "dead-letter-exchange": DEAD,
                    "dead-letter-strategy": "at-least-once",
                },
            ),
            _policy(f"{USER}-dead", DEAD, bounds),
            {
                **_policy(f"{USER}-sub", "", _SUBSCRIBER_QUEUE),
                "pattern": f"^{SUBSCRIBERS.replace('.', '[.]')}",
            },
        ],
    }


def _policy(name: str, queue: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "vhost": "/",
        "name": name,
        "pattern": f"^{queue.replace('.', '[.]')}$",
        "apply-to": "queues",
        "priority": 0,
        "definition": definition,
    }
