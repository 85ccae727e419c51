"""Entries that stand in for damaged ones of a queue's log, so that nothing behind them is lost."""

import random
import struct

import pytest
from test_log_check import entry
from test_segment_check import written

from appliance.broker.node import log_check, segment_check
from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs
from appliance.broker.node.stand_ins import NOTHING, stand_in

QUEUE = "2F_APP"


def atom(name):
    """As Erlang 25 writes one."""
    return b"d" + struct.pack(">H", len(name)) + name


def later_atom(name):
    """As Erlang 26 does."""
    return b"w" + bytes([len(name)]) + name


def pid(number, named=atom):
    return b"X" + named(b"appliance@localhost") + struct.pack(">III", number, 0, 7)


def integer(number):
    if number < 256:
        return b"a" + bytes([number])
    if number < 2**31:
        return b"b" + struct.pack(">i", number)
    content = number.to_bytes(4 if number < 2**32 else 5, "little")
    return b"n" + bytes([len(content), 0]) + content


def command(*parts, named=atom):
    meta = b"t" + struct.pack(">I", 1) + named(b"ts") + b"n\x06\x00\x88\x81\x14 \xa2\x01"
    inner = b"h" + bytes([len(parts)]) + b"".join(parts)
    return b"\x83h\x04" + named(b"$usr") + meta + inner + named(b"await_consensus")


def enqueue(sender, number, body=b"hello", named=atom):
    message = b"m" + struct.pack(">I", len(body)) + body
    return command(named(b"enqueue"), pid(sender, named), integer(number), message, named=named)


def settle(named=atom):
    return command(named(b"settle"), b"l\0\0\0\1a\x05j", named=named)


@pytest.mark.parametrize("named", [atom, later_atom])
@pytest.mark.parametrize(
    "number", [1, 2, 254, 255, 256, 70_000, 2**31 - 2, 2**31 - 1, 2**31, 2**35]
)
def test_lost_message_is_stood_in_for_by_the_one_before_it_under_its_number(number, named):
    before = enqueue(1, number, b"before", named)
    made = stand_in([before], [settle(named), enqueue(1, number + 2, b"behind", named)])
    assert made == enqueue(1, number + 1, b"before", named)


def test_each_channel_has_numbers_of_its_own():
    before = [enqueue(1, 7, b"one"), enqueue(2, 30, b"two"), settle(), enqueue(1, 8, b"three")]
    behind = [enqueue(3, 1), enqueue(1, 9), enqueue(2, 32)]
    assert stand_in(before, behind) == enqueue(2, 31, b"two")


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ([], []),
        ([], [enqueue(1, 5)]),
        ([enqueue(1, 5)], []),
        ([enqueue(1, 5)], [enqueue(2, 9)]),
        ([enqueue(1, 5)], [enqueue(1, 6), enqueue(1, 9)]),
        ([settle()], [settle()]),
        ([b"", b"\x83", b"\x83h\x04", b"x" * 50], [b"\x83" + b"l\xff\xff\xff\xff"]),
    ],
)
def test_where_no_message_was_lost_or_nobody_knows_the_entry_does_nothing(before, behind):
    assert stand_in(before, behind) == NOTHING


def test_entries_of_any_other_form_are_no_messages():
    """Nothing that a stranger publishes can be taken for the head of an entry."""
    source, whole = random.Random(3), enqueue(1, 300, b"x" * 100)
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(source.randint(1, 5)):
            content[source.randrange(len(content))] = source.randrange(256)
        stand_in([bytes(content[: source.randint(0, len(content))])], [whole])


@pytest.fixture
def layout(tmp_path):
    (queue_logs(Layout(tmp_path)) / QUEUE).mkdir(parents=True)
    return Layout(tmp_path)


def damage(content, at):
    """Change more of it than can be put right."""
    return content[:at] + bytes(byte ^ 0x41 for byte in content[at : at + 3]) + content[at + 3 :]


MESSAGES = [enqueue(1, number, b"message %d " % number * number) for number in range(1, 9)]


def test_damaged_messages_in_a_log_are_stood_in_for_by_those_before_them(layout):
    entries = [entry(4, 1, MESSAGES[0], QUEUE.encode())]
    entries += [entry(4, number, data) for number, data in enumerate(MESSAGES[1:], 2)]
    head = b"RAWA\x01"
    log = queue_logs(layout) / "00000001.wal"
    harmed = [
        damage(each, 60) if number in (2, 3, 5) else each for number, each in enumerate(entries)
    ]
    log.write_bytes(head + b"".join(harmed))
    (mended,) = log_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (0, 3)
    for number, model in ((2, 1), (3, 1), (5, 4)):
        body = b"message %d " % (model + 1) * (model + 1)
        entries[number] = entry(4, number + 1, enqueue(1, number + 1, body))
    assert log.read_bytes() == head + b"".join(entries)
    assert log_check.mend(layout) == []


@pytest.mark.parametrize("lost", [[0], [3], [1, 2], [7], [0, 7]])
def test_damaged_messages_in_a_segment_are_stood_in_for_also_across_segments(layout, lost):
    folder = queue_logs(layout) / QUEUE
    earlier, later = enqueue(1, 0, b"the one before"), enqueue(1, 9, b"the one behind")
    (folder / "00000004.segment").write_bytes(written([earlier], first=11))
    (folder / "00000006.segment").write_bytes(written([later], first=20))
    content = written(MESSAGES, first=12)
    for number in lost:
        content = damage(content, 8 + 32 * 8 + sum(map(len, MESSAGES[:number])) + 50)
    segment = folder / "00000005.segment"
    segment.write_bytes(content)
    (mended,) = segment_check.mend(layout)
    assert (mended.corrected, mended.replaced) == (0, len(lost))
    wanted = [earlier]
    for number, data in enumerate(MESSAGES, 1):
        stands_in = stand_in(wanted, [enqueue(1, number + 1)])
        wanted.append(stands_in if number - 1 in lost else data)
    assert segment.read_bytes() == written(wanted[1:], first=12)
    assert segment_check.mend(layout) == []
