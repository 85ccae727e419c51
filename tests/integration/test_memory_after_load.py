"""What a worker took for a load, it gives back afterwards."""

import re
from pathlib import Path

from harness import wait_until


def own_mib(process):
    """Return the MiB that nobody shares with the process."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return int(re.search(r"Private_Dirty: +([0-9]+) kB", rollup)[1]) / 1024


def test_a_worker_gives_back_the_memory_of_a_load_and_goes_on(stack):
    running = stack()
    worker = running.workers[0]
    before = own_mib(worker)
    lines = b"\n".join([b"x" * 1000] * 1000)
    for _ in range(80):
        running.publish("t", lines, params={"split": "lines"}).raise_for_status()
    wait_until(lambda: running.count("t") == 80_000, "all are stored", 60, running.logs)
    # SQLite's cache alone had 16 MB more.
    wait_until(lambda: own_mib(worker) < before + 10, "the memory is given back", 15, running.logs)
    running.publish("t", b"next").raise_for_status()
    wait_until(lambda: running.count("t") == 80_001, "the next one is stored", 15, running.logs)
