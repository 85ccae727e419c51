"""What programs print, joined to one output."""

import fcntl
import os
import pty
import struct
import termios
import time

import pytest

from appliance.supervision.output import Lines, Output, Screen


@pytest.fixture
def written():
    return []


def test_lines_stay_whole_however_they_arrive(written):
    lines = Lines(written.append, named=False)
    lines.add("api", b"one\ntw")
    lines.add("worker_0", b"three\n")
    lines.add("api", b"o\n")
    assert b"".join(written) == b"one\nthree\ntwo\n"


def test_bytes_that_are_no_text_pass_unchanged(written):
    lines = Lines(written.append, named=False)
    lines.add("broker", b"\xff\xfe \xc3")
    lines.add("broker", b"\xa9\n")
    assert b"".join(written) == b"\xff\xfe \xc3\xa9\n"


def test_text_for_people_begins_with_the_program(written):
    lines = Lines(written.append, named=True)
    lines.add("api", b"one\ntwo\n")
    assert b"".join(written) == b"api         one\napi         two\n"


def test_control_characters_are_written_out_so_that_no_program_steers_a_terminal(written):
    for named in (True, False):
        Lines(written.append, named=named).add("broker", b"\x1b[31mred\x07\ttab\r\n")
    assert written == [
        b"broker      \\x1b[31mred\\x07\ttab\n",
        b"\\x1b[31mred\\x07\ttab\n",
    ]


@pytest.fixture
def screen():
    """A terminal of 50 columns, without and with colours."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    yield lambda **environ: Screen(terminal, environ)
    os.close(controller)
    os.close(terminal)


def test_a_line_on_a_terminal_is_cut_to_its_width(written, screen):
    lines = Lines(written.append, named=True, screen=screen(NO_COLOR="1"))
    lines.add("api", b"x" * 100 + b"\n" + "ö".encode() * 38 + b"\n")
    cut, whole = b"".join(written).decode().splitlines()
    assert cut == "api         " + "x" * 37 + "…"
    assert whole == "api         " + "ö" * 38


def test_a_line_of_rabbitmq_is_shortened_to_the_form_of_the_others(written, screen):
    lines = Lines(written.append, named=True, screen=screen(NO_COLOR="1"))
    lines.add("broker", b"2026-11-25T19:37:10.123456+01:00 [warning] <0.616.0> disk\n")
    lines.add("broker", b"2026-11-25T18:37:10.123456Z [info] <0.616.0> ready\n")
    lines.add("broker", b"2026-99-25T18:37:10Z [info] <0.6.0> o\n")
    assert b"".join(written).splitlines() == [
        b"broker      18:37:10 WARNING disk",
        b"broker      18:37:10 ready",
        b"broker      2026-99-25T18:37:10Z [info] <0.6.0> o",
    ]


def test_a_warning_that_every_new_node_gives_is_shown_as_no_warning(written, screen):
    """`rebuilding indices from scratch` is the first thing that a new RabbitMQ node logs."""
    lines = Lines(written.append, named=True, screen=screen(NO_COLOR="1"))
    moment = b"2026-11-25T18:37:10.123456Z [warning] <0.616.0> "
    lines.add("broker", moment + b'Message store "a/msg": rebuilding indices from scratch\n')
    lines.add("broker", moment + b'Message store "a/msg": damaged\n')
    assert [line.split()[2] for line in b"".join(written).splitlines()] == [b"Message", b"WARNING"]


def test_a_warning_is_coloured_unless_colours_are_unwanted(written, screen):
    for environ in ({}, {"NO_COLOR": "1"}):
        lines = Lines(written.append, named=True, screen=screen(**environ))
        lines.add("api", b"12:00:00 WARNING disk\n12:00:00 an ERROR\n")
    assert written == [
        b"api         12:00:00 \x1b[33mWARNING\x1b[0m disk\napi         12:00:00 an ERROR\n",
        b"api         12:00:00 WARNING disk\napi         12:00:00 an ERROR\n",
    ]


def test_the_last_words_of_a_program_end_with_a_newline(written):
    lines = Lines(written.append, named=False)
    lines.add("api", b"Segmentation fau")
    lines.finish("api")
    lines.finish("api")
    assert b"".join(written) == b"Segmentation fau\n"


def test_a_line_without_an_end_is_cut(written):
    lines = Lines(written.append, named=False)
    for _ in range(100):
        lines.add("api", b"x" * 65536)
    assert sum(map(len, written)) >= 6 * 2**20
    assert all(piece.endswith(b"\n") for piece in written)


def test_more_than_a_pipe_holds_arrives_whole_when_it_is_read(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        Output(file.fileno()).write(b"line\n" * 100_000)
    assert path.read_bytes() == b"line\n" * 100_000


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_says_what_was_lost():
    reader, writer = os.pipe()
    output = Output(writer)
    started = time.monotonic()
    for _ in range(1000):
        output.write(b"x" * 999 + b"\n")
    assert time.monotonic() - started < 3  # it waits once, for a second
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
    first = os.read(reader, 2**20)
    output.write(b"again\n")
    rest = os.read(reader, 2**20).decode()
    assert rest.endswith(f"[{1_000_000 - len(first)} bytes of logs were not read in time and "
                         "dropped]\nagain\n")  # fmt: skip
    os.close(reader)
    os.close(writer)


def test_a_terminal_that_was_stopped_holds_nobody_up():
    controller, terminal = pty.openpty()
    output = Output(terminal)
    started = time.monotonic()
    for _ in range(1000):
        output.write(b"x" * 999 + b"\n")  # nobody reads the other side, as after Ctrl-S
    assert time.monotonic() - started < 3
    os.close(controller)
    output.write(b"the window was closed\n")
    os.close(terminal)


def test_a_reader_that_is_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    Output(writer).write(b"one\n")
    os.close(writer)
