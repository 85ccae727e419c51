"""Readers that page through topics, in a process of their own.

`python -m bench.readers` reads a `Reading` as JSON and prints the seconds that each page took.
"""

import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass

#: Messages of a page.
_LIMIT = 100


@dataclass
class Reading:
    """What to read. A reader asks for its next page `pause` seconds after it has the last one."""

    port: int
    token: str
    topics: list[str]
    readers: int
    seconds: float
    pause: float
    #: follow the cursor; else always the newest page
    walk: bool


def _read(reading: Reading, number: int, stop_at: float, took: list[float]) -> None:
    topic = reading.topics[number % len(reading.topics)]
    newest = f"/v1/topics/{topic}/messages?limit={_LIMIT}"
    path = newest
    link = http.client.HTTPConnection("127.0.0.1", reading.port, timeout=60)
    while time.monotonic() < stop_at:
        began = time.perf_counter()
        link.request("GET", path, headers={"Authorization": f"Bearer {reading.token}"})
        answer = link.getresponse()
        content = answer.read()
        took.append(time.perf_counter() - began)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {content[:200]!r}")
        path = (json.loads(content)["next_url"] or newest) if reading.walk else newest
        time.sleep(reading.pause)
    link.close()


def main() -> None:
    """Read a Reading from standard input, write what pages took to standard output."""
    reading = Reading(**json.load(sys.stdin))
    took: list[float] = []
    stop_at = time.monotonic() + reading.seconds
    threads = [
        threading.Thread(target=_read, args=(reading, number, stop_at, took))
        for number in range(reading.readers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(sorted(took), sys.stdout)


if __name__ == "__main__":
    main()
