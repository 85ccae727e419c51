"""The thread that copies messages into topics: it waits for space, gives way, and ends soon."""

import threading

import pytest
from harness import wait_until
from replaying import asked
from store_contents import many

from appliance import config as configuration
from appliance import replay_copier
from appliance.replay_copier import ReplayCopier
from appliance.store import open_store
from appliance.store.replay_rows import DONE, RUNNING, ReplaySelection


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    store.migrate()
    writer = store.open_writer()
    writer.store([many([b"%d" % n for n in range(1000)], "many")])
    writer.close()
    yield store
    store.reader.close()


@pytest.fixture
def start(monkeypatch, store):
    """Start copiers, as workers have them; they end with the test."""
    monkeypatch.setattr(replay_copier, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(replay_copier, "_ELSEWHERE_SECONDS", 0.05)
    monkeypatch.setattr(replay_copier, "_PIECE_ROWS", 10)
    running = []

    def start(lacking=lambda: ""):
        copier = ReplayCopier(store.replays, store.open_writer, lacking)
        thread = threading.Thread(target=copier.run)
        thread.start()
        copier.wake()
        running.append((copier, thread))

    yield start
    for copier, _ in running:
        copier.stop()
    for _, thread in running:
        thread.join(20)
        assert not thread.is_alive()


def done(store, row):
    wait_until(lambda: store.replays.find(row.id).state == DONE, "the replay is done")
    return store.replays.find(row.id)


def test_copiers_of_two_workers_make_each_copy_once(store, start):
    start()
    start()
    only = ReplaySelection(topics=("many",))
    for row in [asked(store, only, target=target) for target in ("one", "two")]:
        assert done(store, row).sent == 1000
    assert [topic.messages for topic in store.reader.topics()] == [1000, 1000, 1000]


def test_a_copier_waits_while_a_disk_is_full(store, start):
    full, asks = ["the data's disk has 0 bytes free"], []

    def lacking():
        asks.append(1)
        return full[0]

    start(lacking)
    row = asked(store)
    wait_until(lambda: len(asks) > 2, "it looks again and again")
    found = store.replays.find(row.id)
    assert (found.state, found.sent) == (RUNNING, 0)
    full[0] = ""
    assert done(store, row).sent == 1000
