"""The pictures of the README: the overview, and messages as they come.

`make pictures` writes them into docs/images; otherwise they are made, looked at for what they must
show, and kept in build/screenshots.
"""

import contextlib
import json
import os
import random
import sqlite3
import time
import uuid
from pathlib import Path

from harness import wait_until
from sample import until

from appliance.model.timestamps import timestamp

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ("docs/images" if os.environ.get("PICTURES") else "build/screenshots")
#: Bytes of a picture in the repository.
MOST_BYTES = 250_000


def picture(page, name):
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"console-{name}.png"
    page.screenshot(path=path)
    assert 20_000 < path.stat().st_size < MOST_BYTES


def remember(inbox, chance):
    """Give the inbox an hour of messages, as if it had run since."""
    now = time.time()
    times = sorted(now - 60 - 3500 * chance.random() ** 1.3 for _ in range(900))
    rows = [(str(uuid.uuid4()), "greenhouse", '{"temp": 20}', timestamp(each)) for each in times]
    with contextlib.closing(sqlite3.connect(inbox.database)) as link, link:
        insert = "INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)"
        link.executemany(insert, rows)
        minutes = [
            (int(now) // 60 * 60 - 60 * ago, *(chance.randrange(900, 1400) for _ in range(2)),
             chance.randrange(3), chance.uniform(0.01, 0.1), chance.uniform(0.003, 0.005),
             chance.uniform(0.006, 0.012), 62_000_000_000 + ago * 4_000_000)
            for ago in range(2, 60)
        ]  # fmt: skip
        link.executemany(
            "INSERT OR REPLACE INTO history (at, seconds, accepted, stored, refused, dead, waiting,"
            " oldest_seconds, p50_seconds, p99_seconds, disk_free_bytes)"
            " VALUES (?, 60, ?, ?, 0, 0, ?, ?, ?, ?, ?)",
            minutes,
        )


def test_pictures_of_the_readme_show_an_inbox_in_use(browse, inbox, stored):
    chance = random.Random(7)
    if os.environ.get("PICTURES"):
        remember(inbox, chance)
    for number in range(24):
        reading = {"device": f"greenhouse-{number % 4}", "temp": round(chance.uniform(18, 27), 1)}
        order = {"id": 9_223_372_036_854_775_000 + number, "customer": "Ada Lovelace",
                 "items": [{"sku": "tea-1", "count": number % 3 + 1, "price": 19.9}],
                 "paid": number % 2 == 0}  # fmt: skip
        pushed = {"action": "push", "repository": {"full_name": "acme/widgets"}, "commits": number}
        stored("greenhouse", json.dumps(reading))
        stored("orders", json.dumps(order))
        stored("github", json.dumps(pushed))
    page = browse("/console/", viewport={"width": 1200, "height": 760})
    least = 40 if os.environ.get("PICTURES") else 1  # steps of a line, once a minute is over

    def drawn():
        page.reload()
        path = page.locator(".charts path").first
        return path.count() and path.get_attribute("d").count("H") >= least

    wait_until(drawn, "the course is drawn", 100)
    picture(page, "overview")
    page.set_viewport_size({"width": 1280, "height": 760})
    page.goto("/console/messages")
    until(page, "document.querySelectorAll('tr[data-row]').length > 20")
    page.wait_for_selector("[data-live]:not([hidden])")
    picture(page, "messages")
