"""The rights that pages need: reading, where a page says nothing else."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from flask import current_app, g, request

from appliance.auth.principal import Principal, Right
from appliance.console.page_errors import PageError

ViewT = TypeVar("ViewT", bound=Callable[..., Any])

_WORDS: Final = {Right.PUBLISH: "send", Right.READ: "read", Right.ADMIN: "change things"}


def needs(right: Right | None) -> Callable[[ViewT], ViewT]:
    """Say which right a page needs; None: it is shown to everyone, signed in or not."""

    def mark(view: ViewT) -> ViewT:
        view.right = right  # type: ignore[attr-defined]
        return view

    return mark


def needed() -> Right | None:
    """Return the right that the page that was asked for needs."""
    view = current_app.view_functions.get(request.endpoint or "")
    return getattr(view, "right", Right.READ)


def principal() -> Principal:
    """Return who is signed in, or nobody with no right."""
    who: Principal = g.principal
    return who


def is_signed_in() -> bool:
    """Whether someone is signed in."""
    return bool(principal().rights)


def check(right: Right, topic: str | None = None) -> None:
    """Raise PageError (403) where the principal lacks a right."""
    who = principal()
    if who.may(right, topic):
        return
    can = " and ".join(_WORDS[each] for each in Right if each in who.rights)
    if right in who.rights:
        raise PageError(403, f"Your token {who.name} has no right for the topic {topic}.")
    raise PageError(403, f"Your token {who.name} may {can}, not {_WORDS[right]}.")


def patterns() -> tuple[str, ...] | None:
    """Return the patterns of the topics that the principal may read; None: every topic."""
    who = principal()
    return tuple(who.topics) if who.is_restricted else None
