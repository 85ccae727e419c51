"""The principal: the caller and their rights. It stands between a request's head and its route."""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from appliance.model.grants import Rate


class Right(StrEnum):
    """One thing that a principal can be allowed to do; the words are those of `model.grants`."""

    PUBLISH = "publish"
    READ = "read"
    ADMIN = "admin"  # everything that changes what is stored, or the appliance itself


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request. `name` is for logs and holds no secret.

    `topics` are patterns such as `orders.*`; a right that concerns a topic holds for those that
    match one of them. `rate` is how many requests are served (None: as many as come).
    """

    name: str
    rights: frozenset[Right]
    topics: tuple[str, ...] = ("*",)
    rate: Rate | None = None

    def may(self, right: Right, topic: str | None = None) -> bool:
        """Whether the principal has the right; with a topic, whether it has it for that topic."""
        if right not in self.rights:
            return False
        return topic is None or any(fnmatchcase(topic, pattern) for pattern in self.topics)

    @property
    def is_restricted(self) -> bool:
        """Whether there are topics that it has no right for."""
        return "*" not in self.topics


#: Whoever asks without a token. The open addresses are served to it, and nothing else.
ANONYMOUS: Final = Principal("anonymous", frozenset(), ())
#: Whoever holds the administrator's token.
ADMINISTRATOR: Final = Principal("administrator", frozenset(Right))
