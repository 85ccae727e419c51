"""The principal: the caller and their rights. It stands between a request's head and its route."""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final


class Right(StrEnum):
    """One thing that a principal can be allowed to do."""

    PUBLISH = "publish"
    READ = "read"
    MANAGE = "manage"  # everything that changes what is stored, or the appliance itself


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request. `name` is for logs and holds no secret.

    `topics` are patterns such as `orders.*`; a right that concerns a topic holds for those that
    match one of them.
    """

    name: str
    rights: frozenset[Right]
    topics: tuple[str, ...] = ("*",)

    def may(self, right: Right, topic: str | None = None) -> bool:
        """Whether the principal has the right; with a topic, whether it has it for that topic."""
        if right not in self.rights:
            return False
        return topic is None or any(fnmatchcase(topic, pattern) for pattern in self.topics)


#: Whoever asks without a token. The open addresses are served to it, and nothing else.
ANONYMOUS: Final = Principal("anonymous", frozenset(), ())
#: Whoever holds the administrator's token.
ADMINISTRATOR: Final = Principal("administrator", frozenset(Right))
