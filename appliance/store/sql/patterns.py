"""Patterns of topics, as the engines' condition `SqlWords.matches` takes them."""

import json
from collections.abc import Sequence

from appliance.store.filters import MessageFilter


def pattern_text(patterns: Sequence[str] | None) -> str | None:
    """Return patterns as a JSON array; None, which means all topics, stays None."""
    return None if patterns is None else json.dumps(list(patterns))


def wanted_topics(wanted: MessageFilter) -> dict[str, str | None]:
    """Return what the condition `SqlWords.topic_is_wanted` binds."""
    return {"topics": pattern_text(wanted.topics), "patterns": pattern_text(wanted.patterns)}
