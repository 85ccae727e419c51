"""Names of topics. No I/O."""

import re
from typing import Final

from appliance.errors import TopicError

_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)


def check_topic(topic: str) -> str:
    """Return `topic`. Raises TopicError where it is no topic's name."""
    if not _TOPIC.fullmatch(topic):
        raise TopicError(
            "a topic has 1 to 100 of a-z, 0-9, dot, underscore and dash, "
            "and begins with a letter or a digit"
        )
    return topic
