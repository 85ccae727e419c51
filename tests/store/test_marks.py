"""Marks: how far the store was at a time, found without counting."""

from store_contents import one

TIMES = [f"2026-01-02T03:04:0{n}.000Z" for n in range(6)]


def test_a_mark_is_the_last_message_received_before_a_time(store):
    writer = store.open_writer()
    assert store.reader.marks(TIMES) == [0] * 6
    writer.store([one(time=time) for time in TIMES[1:5]])
    assert store.reader.marks(TIMES) == [0, 0, 1, 2, 3, 4]
    assert store.reader.marks(["2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"]) == [0, 4]
    writer.close()
