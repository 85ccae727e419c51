"""Messages of every kind for pages to show, and the addresses of all pages."""

import json
from typing import Any

from harness import wait_until
from playwright.sync_api import Error, Page
from supervised import Appliance

#: Every page that is shown to who is signed in: its name, and its address with names of `fill`.
PAGES = {
    "overview": "/console/",
    "topics": "/console/topics",
    "addresses": "/console/topics/{topic}/addresses",
    "empty": "/console/topics/{topic}/empty",
    "deletion": "/console/deletions/{deletion}",
    "dead-letters": "/console/dead-letters",
    "dead-letter": "/console/dead-letters/{letter}",
    "alerts": "/console/alerts",
    "endpoints": "/console/endpoints",
    "endpoint": "/console/endpoints/{endpoint}",
    "replays": "/console/replays",
    "new replay": "/console/replays/new",
    "subscriptions": "/console/subscriptions",
    "for later": "/console/delayed",
    "handlers": "/console/handlers",
    "send": "/console/send?topic={topic}",
    "send again": "/console/send?from={webhook}",
    "system": "/console/system",
    "logs": "/console/system/logs?process=api",
    "checks": "/console/system/checks",
    "backups": "/console/system/backups",
    "settings": "/console/system/settings",
    "storage": "/console/system/storage",
    "access": "/console/access",
    "inboxes": "/console/access/inboxes",
    "sessions": "/console/access/sessions",
    "audit": "/console/access/audit",
    "overview of a day": "/console/?span=24h",
    "live": "/console/live",
    "messages": "/console/messages",
    "search": "/console/messages?q=device:t-1+temp>1&cols=device,temp&facet=device",
    "no hit": "/console/messages?q=nobody-ever-wrote-this&since=1h",
    "one beside": "/console/messages?open={message}",
    "topic": "/console/topics/{topic}",
    "message": "/console/messages/{message}",
    "text": "/console/messages/{text}?view=raw",
    "binary": "/console/messages/{binary}",
    "headers": "/console/messages/{message}?view=headers",
    "sql": "/console/messages/{message}?view=sql",
    "compare": "/console/compare?a={message}&b={other}",
    "connect": "/console/connect",
    "api": "/console/api",
    "help": "/console/help",
    "nothing": "/console/no-such-page",
}
#: Pages whose answer is an error, which the browser reports.
ERRORS = {"nothing": "404"}


def until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript is true on a page.

    Playwright's own way evaluates it within the page, which the console's policy refuses.
    """

    def holds() -> bool:
        try:
            return bool(page.evaluate(expression))
        except Error:
            return False  # a new page is coming

    wait_until(holds, expression)


def fill(inbox: Appliance) -> dict[str, str]:
    """Send messages; return the names that addresses of PAGES have in braces."""
    ids: dict[str, str] = {}

    def send(topic: str, body: bytes, name: str = "", **headers: str) -> None:
        answer = inbox.client.post(f"/v1/topics/{topic}/messages", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        ids[name or "last"] = answer.json()["id"]

    for number in range(60):
        reading = {"device": f"t-{number % 7}", "temp": 18.5 + number / 10, "ok": number % 9 > 0}
        send("readings", json.dumps(reading).encode())
    order = {
        "id": 9223372036854775807,
        "customer": {"name": "Ada Straße", "id": 42},
        "items": [{"sku": "A-1", "count": 2, "price": 19.90}, {"sku": "B-7", "count": 1}],
        "paid": True,
        "note": None,
    }
    send("orders", json.dumps(order).encode(), "message")
    order["paid"] = False
    send("orders", json.dumps(order).encode(), "other")
    send("backups", b"backup ok", "text")
    send("pictures", bytes(range(256)) * 3, "binary")
    hook = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "72d3", "Content-Type": "text/json"}
    send("webhooks.github", b'{"action":"opened","number":1}', "webhook", **hook)
    send("emptied", b"x")
    bad = b'{"fine": 1}\nnot json <script>alert(1)</script>\n"fine too"'
    query = "?split=ndjson&on-bad=dead-letter"
    inbox.client.post(f"/v1/topics/hostile/messages{query}", content=bad).raise_for_status()
    wait_until(lambda: _letters(inbox), "a dead letter")
    for each in set(ids.values()):
        wait_until(
            lambda each=each: inbox.client.get(f"/v1/messages/{each}").status_code == 200,
            f"{each} is stored",
        )
    _add_endpoint(inbox)
    wish = {"name": "jobs", "topics": ["readings"], "from": "beginning"}
    assert inbox.client.post("/v1/subscriptions", json=wish).status_code == 201
    inbox.client.post("/v1/topics/readings/messages?delay=1d", content=b"later").raise_for_status()
    deletion = inbox.client.delete("/v1/topics/emptied/messages").json()["id"]
    path = f"/v1/deletions/{deletion}"
    wait_until(lambda: inbox.client.get(path).json()["status"] == "done", "a topic is emptied")
    more = {"deletion": deletion, "topic": "readings", "endpoint": "away"}
    return {**ids, **more, "letter": str(_letters(inbox)[0]["seq"])}


def _add_endpoint(inbox: Appliance) -> None:
    """Make an endpoint whose host nobody knows: it fails, and gives up its first messages."""
    wish = {
        "name": "away",
        "url": "http://receiver.invalid/hook",
        "topics": ["readings"],
        "from": "beginning",
        "settings": {"lifetime": 0},
    }
    assert inbox.client.post("/v1/endpoints", json=wish).status_code == 201

    def fails() -> bool:
        shown = inbox.client.get("/v1/endpoints/away").json()
        return bool(shown["breaker"]["state"] == "open" and shown["undelivered"]["given_up"])

    wait_until(fails, "an endpoint fails")


def _letters(inbox: Appliance) -> list[dict[str, Any]]:
    query = {"topic": "hostile"}
    found: list[dict[str, Any]] = inbox.client.get("/v1/dead-letters", params=query).json()[
        "dead_letters"
    ]
    return found
