import os
import random
import threading
import time

import pytest

from appliance.cli import batching
from appliance.cli.batching import Batch, read_batches
from appliance.errors import InputError


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    ends = [reader, writer]
    yield reader, lambda data: os.write(writer, data), lambda: os.close(ends.pop())
    for end in ends:
        os.close(end)


def batches(tmp_path, data, **limits):
    path = tmp_path / "input"
    path.write_bytes(data)
    with path.open("rb", buffering=0) as file:
        return list(read_batches(file.fileno(), **limits))


def test_every_byte_comes_through_and_batches_end_with_lines(tmp_path):
    chance = random.Random(4)
    data = b"".join(b"x" * int(chance.expovariate(0.01)) + b"\n" for _ in range(5000))
    found = batches(tmp_path, data, max_bytes=4096, max_lines=50)
    assert b"".join(batch.data for batch in found) == data
    assert all(batch.data.endswith(b"\n") for batch in found)
    assert max(batch.data.count(b"\n") for batch in found) <= 50
    assert max(len(batch.data) for batch in found) <= 4096


def test_batches_are_counted_by_line_numbers(tmp_path):
    found = batches(tmp_path, b"a\nb\n\nd\ne", max_bytes=4)
    assert found == [Batch(b"a\nb\n", 1, 2), Batch(b"\nd\n", 3, 4), Batch(b"e", 5, 5)]


def test_a_last_line_needs_no_newline(tmp_path):
    assert batches(tmp_path, b"a\nb") == [Batch(b"a\nb", 1, 2)]


def test_an_empty_input_gives_no_batch(tmp_path):
    assert batches(tmp_path, b"") == []


@pytest.mark.parametrize("tail", [b"", b"\n", b"\nend", b"\nend\n"])
def test_a_line_longer_than_a_batch_goes_alone(tmp_path, tail):
    long = b"y" * 10_000
    found = batches(tmp_path, b"a\nb\n" + long + tail, max_bytes=1000)
    assert [batch.data.rstrip(b"\n") for batch in found][:2] == [b"a\nb", long]
    assert found[1].first == 3
    assert b"".join(batch.data for batch in found) == b"a\nb\n" + long + tail


def test_lines_of_very_unlike_length_are_cut_too(tmp_path):
    data = b"z" * 900 + b"\n" + b"\n" * 90 + b"z" * 900 + b"\n"
    found = batches(tmp_path, data, max_bytes=2000, max_lines=10)
    assert b"".join(batch.data for batch in found) == data
    assert max(batch.data.count(b"\n") for batch in found) <= 10


def test_a_line_that_no_server_takes_is_named_and_not_kept_in_memory(pipe, monkeypatch):
    monkeypatch.setattr(batching, "LONGEST_LINE", 5000)
    reader, write, close = pipe
    write(b"short\n" + b"x" * 6000)
    close()
    with pytest.raises(InputError, match="line 2 is longer than 5000 bytes"):
        list(read_batches(reader, max_bytes=1000))


def test_a_slow_pipe_is_not_kept_waiting(pipe):
    reader, write, close = pipe
    write(b"one\ntw")
    found = read_batches(reader)
    started = time.monotonic()
    assert next(found) == Batch(b"one\n", 1, 1)
    assert time.monotonic() - started < 2
    write(b"o\nthree\n")
    assert next(found) == Batch(b"two\nthree\n", 2, 3)
    write(b"end")
    threading.Timer(0.5, close).start()
    assert next(found) == Batch(b"end", 4, 4)
    with pytest.raises(StopIteration):
        next(found)


def test_a_pipe_that_gives_much_is_sent_in_full_batches(pipe):
    reader, write, close = pipe
    data = b"0123456789abcde\n" * 200_000

    def feed():
        for start in range(0, len(data), 10_000):
            write(data[start : start + 10_000])
        close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    found = list(read_batches(reader, max_lines=50_000))
    feeder.join()
    assert b"".join(batch.data for batch in found) == data
    assert len(found) < 20
