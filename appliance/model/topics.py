"""Names of topics. No I/O."""

import re
import unicodedata
from typing import Final

from appliance.errors import TopicError

_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)

#: The topic of the appliance's own canaries, and how their bodies begin.
CANARY_TOPIC: Final = "appliance.canary"
CANARY_BEGIN: Final = '{"appliance_canary_sent_at": '

#: Characters of a name that is mapped: it is kept beside the message.
_NAME_LENGTH: Final = 400
_FOREIGN: Final = re.compile(r"[^a-z0-9._-]")


def check_topic(topic: str) -> str:
    """Return `topic`. Raises TopicError where it is no topic's name."""
    if not _TOPIC.fullmatch(topic):
        raise TopicError(
            "a topic has 1 to 100 of a-z, 0-9, dot, underscore and dash, "
            "and begins with a letter or a digit"
        )
    return topic


def map_topic(name: str) -> str:
    """Return the topic that a name of another system stands for: the same for the same name, ever.

    Letters become small and lose their accents, `/` becomes a dot, and each other character that a
    topic can't have an underscore; dots, underscores and dashes at the beginning go. So
    `Home/Kitchen/temp` is `home.kitchen.temp`. Different names can become one topic.

    Raises TopicError where nothing or too much is left.
    """
    if len(name) > _NAME_LENGTH:
        raise TopicError(f"a name that is mapped to a topic has {_NAME_LENGTH} characters at most")
    # Unicode promises that the decomposition of a character never changes.
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(each for each in plain if not unicodedata.combining(each)).lower()
    return check_topic(_FOREIGN.sub("_", plain.replace("/", ".")).lstrip("._-"))
