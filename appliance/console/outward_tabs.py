"""The tabs that lead to the pages of whatever goes out again, and of the handlers beside it."""

from typing import Final

#: Views and their words.
OUTWARD_TABS: Final = (
    ("show_endpoints", "Endpoints"),
    ("show_replays", "Replays"),
    ("show_subscriptions", "Subscriptions"),
    ("show_delayed", "For later"),
    ("show_handlers", "Handlers"),
)
