"""The addresses of every page and of every call that reads, from the application's own routes.

A route whose address has no part with a name needs no line here. One with a part that is not known
is refused with words, so that no page can be forgotten.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.model.cursors import seq_cursor, topic_cursor
from bench import filled
from bench.filled import Size
from bench.harness import BenchError

#: Values for the parts of addresses, by their names in the routes.
EXAMPLES: Final = {
    "topic": "orders",
    "message_id": "{middle_id}",
    "letter_id": "{letter}",
    "seq": "{letter}",
    "deletion_id": "018b0000-0000-7001-8000-000000000001",
    "hue": "3",
    "_rest": "no-such-page",
}
#: The same where they differ by the route.
_OF_ENDPOINT: Final = {"inboxes.show_inbox": {"name": "inbox-0001"}}
#: What is asked of an address beside it alone: each is a query.
VARIANTS: Final[dict[str, Sequence[str]]] = {
    "console.show_overview": ("span=15m", "span=24h", "span=14d"),
    "console.show_state": ("first=1",),
    "history.show_history": ("span=15m", "span=24h", "span=14d"),
    "console.show_messages": (
        "before={middle}", "after={middle}", "q=ada", "q=%22rang+twice%22", "since=10m",
        "since=2d", "topic=site-00007", "kind=json", "where=state%3Dopen",
        "cols=customer.id,total,state", "facet=*", "facet=state",
        "open={middle_id}&before={middle}",
    ),
    "console.show_topic": (
        "before={middle}", "q=grace", "since=1d&until=1h", "cols=customer.name,total",
        "facet=state",
    ),
    "console.show_message": ("view=sql", "view=tree"),
    "console.show_topics": (
        "sort=messages", "sort=bytes&order=asc", "sort=last", "part=site-00",
        "after=site-05000~site-05000",
    ),
    "console.show_dead_letters": (
        "reason=schema", "reason=undecodable", "topic=site-00007", "topic=orders&reason=conflict",
        "before={letter}", "after={letter}",
    ),
    "messages.list_all_messages": (
        "limit=50", "before={middle}", "q=ada", "since=10m", "topic=site-00007", "kind=json",
    ),
    "topics.list_messages": ("before={middle}", "since=1d", "q=grace"),
    "topics.list_topics": ("after={topic}",),
    "dead_letters.list_letters": (
        "reason=undecodable", "topic=orders", "topic=site-00007&reason=schema",
        "before={before_letter}",
    ),
}  # fmt: skip
#: Routes that are not measured, and why.
LEFT_OUT: Final = {
    "backup.send_backup": "a copy of the whole database",
    "backups.send_kept_backup": "a copy of the whole database",
    "console.download_backup": "a copy of the whole database",
    "doctor.examine": "runs checks of the machine for seconds",
    "console.export_audit": "an export of the whole trail",
    "console.show_asset": "a file that the browser keeps",
    "console.show_sign_in": "leads on for who is signed in",
    "console.show_comparison": "measured with two messages, as an address of its own",
    "schemas.show_schema": "no topic has a schema here",
    "subscriptions.show_subscription": "there is no subscription here",
    "given_up.list_given_up": "there is no subscription here",
    "delayed.show_delayed": "no message waits for its time here",
    "endpoints.show_endpoint": "there is no endpoint here",
    "replays.show_replay": "there is no replay here",
    "deliveries.list_deliveries": "there is no endpoint here",
    "deliveries.list_undelivered": "there is no endpoint here",
    "console.show_endpoint": "there is no endpoint here",
    "processes.show_log": "logs are the supervisor's, and none runs here",
}
#: A part of a route that has a name.
_PART: Final = re.compile(r"<(?:\w+:)?(\w+)>")
#: Addresses beyond the list: those whose query is their meaning.
_MORE: Final = ("/console/compare?id={middle_id}&id={other_id}",)
#: What an answer can be; 404 and 503 are those of a page that is not there, and of no broker.
_FINE: Final = frozenset({200, 303})
_OTHER: Final = {
    "console.show_nothing": frozenset({404}),
    "health.show_readiness": frozenset({503}),
    "health.show_intake_readiness": frozenset({503}),
}


@dataclass(frozen=True)
class Address:
    """One address, and the status of its answer."""

    text: str
    fine: frozenset[int]


def addresses(rules: Iterable[Any], values: dict[str, str]) -> list[Address]:
    """Return every address to ask for, of Flask's rules. Raises BenchError for an unknown part.

    `values` fill the braces of examples and variants.
    """
    found = []
    for rule in rules:
        if "GET" not in (rule.methods or ()) or rule.endpoint in LEFT_OUT:
            continue
        examples = {**EXAMPLES, **_OF_ENDPOINT.get(rule.endpoint, {})}
        unknown = sorted(rule.arguments - examples.keys())
        if unknown:
            raise BenchError(
                f"{rule.rule}: bench/addresses.py has no example for {', '.join(unknown)}; give it "
                "one, or name the route among those that are left out, with the reason"
            )
        path = _PART.sub(r"{\1}", rule.rule).format(**examples)
        for query in ("", *VARIANTS.get(rule.endpoint, ())):
            text = f"{path}?{query}" if query else path
            found.append(Address(text.format(**values), _OTHER.get(rule.endpoint, _FINE)))
    found += [Address(text.format(**values), _FINE) for text in _MORE]
    return sorted(found, key=lambda each: each.text)


def places(size: Size) -> dict[str, str]:
    """Return what fills the braces: places in the middle of everything."""
    middle = size.rows // 32 * 16  # of the topic `orders`, as every sixteenth
    return {
        "middle": seq_cursor(middle),
        "middle_id": filled.message_id(middle),
        "other_id": filled.message_id(middle - 16),
        "topic": topic_cursor("site-00005"),
        "letter": str(size.letters // 2),
        "before_letter": seq_cursor(size.letters // 2),
    }
