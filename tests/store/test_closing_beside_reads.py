"""Whatever closes the connections on which others read: no read fails, and none ends its process.

The reads are in a process of their own: what is closed under a read of SQLite's can end it.
"""

import os
import subprocess
import sys

from store_contents import many

#: Threads read for a second or so through everything that has a connection for each thread, while
#: another one closes it again and again.
READS = """
import os, threading, time
from appliance import config
from appliance.model.search_words import parse_words
from appliance.store import open_store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span

store = open_store(config.load(os.environ))
replays, reader = store.replays, store.reader
wanted = MessageFilter(words=parse_words("word"))
end = time.monotonic() + 1.5
failures = []

def look():
    assert replays.next_copy() is None

def search():
    assert reader.find(wanted, Span(), 1000).rows

def read(once):
    try:
        while time.monotonic() < end and not failures:
            once()
    except BaseException as error:
        failures.append(repr(error))

threads = [threading.Thread(target=read, args=(each,)) for each in (look, look, search)]
for thread in threads:
    thread.start()
while time.monotonic() < end and not failures:
    replays.look_away()
    reader.close()
    time.sleep(0.0005)
for thread in threads:
    thread.join(20)
assert not any(thread.is_alive() for thread in threads), "a read does not end"
assert not failures, failures
"""


def read_beside_closing(config):
    environ = {**os.environ, "APPLIANCE_DATA": str(config.data)}
    if config.database_url:
        environ["APPLIANCE_DATABASE_URL"] = config.database_url
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", READS],
        env=environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_reads_go_on_while_another_thread_closes_what_they_share(config, store, writer):
    writer.store([many([b"word %d" % n for n in range(200)])])
    for duty in store.duties(lambda _: False):  # there is an index to search in
        duty.run()
    done = read_beside_closing(config)
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr}"
    assert done.stdout == ""  # nothing is logged: no search went without the index
