"""The ledger record of a process; sending it is tested with a real broker."""

import asyncio
import multiprocessing

import pytest
from harness import wait_until

from appliance.broker.link import Link
from appliance.broker.publish import last_words
from appliance.broker.publish.last_words import LedgerRecord, recorded
from appliance.broker.publish.numbering import Numbering
from appliance.config import load


def record(data):
    """Make a record whose broker is away."""
    link = Link(load({"APPLIANCE_DATA": str(data)}), lambda _: None, lambda _: None)
    numbering = Numbering()
    return LedgerRecord(data, numbering, link, lambda: False), numbering


def settle(numbering, fates):
    for kept in fates:
        numbering.settle(numbering.next_number(), [], kept=kept)


def test_a_change_is_on_disk_within_two_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(last_words, "_INTERVAL", 0.05)

    async def body():
        mine, numbering = record(tmp_path)
        running = asyncio.create_task(mine.run())
        await asyncio.sleep(0.2)
        assert recorded(tmp_path) == []  # nothing was sent: nothing is written
        for fates in ([True] * 5, [False, True], [True] * 1000):
            settle(numbering, fates)
            entries = [numbering.entry()]
            await asyncio.to_thread(
                wait_until, lambda e=entries: recorded(tmp_path) == e, "it is kept"
            )
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return numbering.entry()

    entry = asyncio.run(body())
    assert (entry.settled, entry.not_kept) == (1007, [[6, 6]])
    assert [path.stat().st_size for path in (tmp_path / "sources").iterdir()] == [4096]


def test_a_record_is_left_where_no_broker_takes_the_final_entries(tmp_path):
    async def body():
        mine, numbering = record(tmp_path)
        settle(numbering, [True, False] * 200)
        entry = numbering.entry()
        await mine.close()
        return entry

    entry = asyncio.run(body())
    assert recorded(tmp_path) == [entry]
    # More ranges than fit are not called settled: none is taken for missing.
    assert entry.settled == 2 * len(entry.not_kept) + 1 == 129


def test_a_record_that_is_left_stays_as_it_is_though_the_process_ends_slowly(tmp_path, monkeypatch):
    """Its last look at the numbering came later, when that had given away what was not kept."""
    monkeypatch.setattr(last_words, "_INTERVAL", 0.05)

    async def body():
        mine, numbering = record(tmp_path)
        settle(numbering, [True, False])
        entry = numbering.entry()
        running = asyncio.create_task(mine.run())
        await mine.close()
        await asyncio.sleep(0.2)
        await asyncio.wait_for(running, 5)
        return entry

    assert asyncio.run(body()).not_kept == [[2, 2]] == recorded(tmp_path)[0].not_kept


def test_a_process_that_sent_nothing_leaves_no_record(tmp_path):
    mine, _ = record(tmp_path)
    asyncio.run(mine.close())
    assert list(tmp_path.iterdir()) == []


def test_the_record_of_a_living_process_is_left_alone(tmp_path):
    mine, numbering = record(tmp_path)
    settle(numbering, [True] * 3)
    mine.write(numbering.entry())
    assert last_words.ended(tmp_path / "sources") == []
    other = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path,))
    other.start()
    other.join(60)
    ((path, entry),) = last_words.ended(tmp_path / "sources")
    assert (entry.settled, path.name) == (7, entry.source)
    assert len(recorded(tmp_path)) == 2


def _write(data):
    mine, numbering = record(data)
    settle(numbering, [True] * 7)
    mine.write(numbering.entry())


@pytest.mark.parametrize("content", [b"", b"x", b'["0123456789abcdef",1,0,[]]', b"\xff" * 9000])
def test_a_record_that_can_not_be_read_is_removed(tmp_path, content):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "torn").write_bytes(content)
    assert recorded(tmp_path) == []
    assert last_words.ended(tmp_path / "sources") == []
    assert list((tmp_path / "sources").iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "sources").touch()
    mine, numbering = record(tmp_path)
    settle(numbering, [True])
    asyncio.run(mine.close())
    assert recorded(tmp_path) == []


def test_a_record_that_another_process_removed_is_made_again(tmp_path):
    mine, numbering = record(tmp_path)
    settle(numbering, [True])
    mine.write(numbering.entry())
    (path,) = (tmp_path / "sources").iterdir()
    path.unlink()
    settle(numbering, [True])
    mine.write(numbering.entry())
    assert recorded(tmp_path) == [numbering.entry()]
    assert last_words.ended(tmp_path / "sources") == []


def test_records_of_several_processes_and_hosts_never_meet(tmp_path):
    for host in ("one", "other"):
        (tmp_path / host).mkdir()
        for _ in range(3):
            mine, numbering = record(tmp_path / host)
            settle(numbering, [True])
            mine.write(numbering.entry())
    entries = recorded(tmp_path / "one") + recorded(tmp_path / "other")
    assert len({entry.source for entry in entries}) == 6
