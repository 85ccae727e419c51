"""Marks: how far the store was at a time, found without counting."""

from store_contents import one

TIMES = [f"2026-01-02T03:04:0{n}.000Z" for n in range(6)]


def test_a_mark_is_the_last_message_received_before_a_time(store):
    writer = store.open_writer()
    assert store.reader.marks(TIMES) == [0] * 6
    writer.store([one(time=time) for time in TIMES[1:5]])
    assert store.reader.marks(TIMES) == [0, 0, 1, 2, 3, 4]
    assert store.reader.marks(["2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"]) == [0, 4]
    among = [TIMES[3], TIMES[1], TIMES[3], "2999-01-01T00:00:00.000Z", TIMES[2]]
    assert store.reader.marks(among) == [2, 0, 2, 4, 1]
    assert store.reader.marks([]) == []
    writer.close()


def test_marks_are_those_of_each_time_alone_where_rows_are_gone(store):
    writer = store.open_writer()
    times = [f"2026-01-02T03:{n // 60:02}:{n % 60:02}.000Z" for n in range(300)]
    writer.store([one(time=time) for time in times[20:280] for _ in range(2)])
    writer.close()
    alone = [store.reader.marks([time])[0] for time in times]
    assert store.reader.marks(times) == alone
    assert alone == sorted(alone)
    assert alone[-1] == 520
