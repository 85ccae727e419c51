"""Limits what a view shows to the topics that the caller may read."""

from flask import g

from appliance.auth.principal import Right


def sees(topic: str) -> bool:
    """Whether the caller may read this topic; a letter's can be no topic's name."""
    return bool(g.principal.may(Right.READ, topic))


def patterns() -> tuple[str, ...] | None:
    """Return the patterns of the topics that the caller may read; None: every topic."""
    return tuple(g.principal.topics) if g.principal.is_restricted else None
