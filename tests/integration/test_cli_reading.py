"""`appliance topics`, `search`, `show` and `export` against a real API."""

import csv
import io
import json
import os
import pty
import re
import stat
import subprocess
from pathlib import Path

import pytest
from api_alone import ApiAlone
from harness import APPLIANCE, wait_until
from store_contents import IDS, TIME, letter, lines, one

from appliance.model.timestamps import timestamp
from appliance.model.wire import single

BIG = b'{"n":12345678901234567890123,"temp":-1.50,"a":1,"a":2,"who":"\\u00e9=1"}'
BINARY = bytes(range(256)) * 4
JSON_ID, BINARY_ID, DEAD_ID = (IDS.new() for _ in range(3))


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    made = ApiAlone(tmp_path_factory.mktemp("api"))
    made.fill(
        single("json", JSON_ID, TIME, BIG, "application/json", '{"via":"http"}'),
        single("json", IDS.new(), timestamp(2e9), b"no json"),
        single("binary", BINARY_ID, TIME, BINARY),
        letter(b"dead \x1b[31m", "json", message_id=DEAD_ID),
        *(lines([b"%d,%d" % (n, m) for m in range(1000)], "many") for n in range(100)),
        *(one(b'line\n"%d"' % n, "quoted") for n in range(10)),
    )
    yield made.start()
    made.close()


def text(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def on_a_terminal(appliance, *arguments):
    """Run a command whose standard output is a terminal; return what it wrote there."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [APPLIANCE, *arguments], env=appliance.env, stdout=theirs, stderr=subprocess.PIPE,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


# --- topics


def test_topics_are_listed_with_their_counters(appliance):
    found = text(appliance.cli("topics")).splitlines()
    assert found[0].split() == ["TOPIC", "MESSAGES", "SIZE", "LAST", "MESSAGE"]
    assert [line.split()[:2] for line in found[1:-1]] == [
        ["binary", "1"], ["json", "2"], ["many", "100,000"], ["quoted", "10"],
    ]  # fmt: skip
    assert found[-1].startswith("4 topics ")
    assert "100,013" in found[-1]


def test_topics_as_json_are_one_object_a_line(appliance):
    rows = [json.loads(line) for line in text(appliance.cli("topics", "--json")).splitlines()]
    assert [(row["topic"], row["messages"]) for row in rows][2] == ("many", 100_000)


# --- search


def test_search_finds_words_in_every_topic_newest_first(appliance):
    done = appliance.cli("search", "line")
    found = text(done).splitlines()
    assert len(found) == 10
    assert found[0].endswith('quoted  line "9"')
    assert done.stderr == b"10 messages found\n"


def test_search_takes_conditions_and_shows_as_many_as_asked(appliance):
    done = appliance.cli("search", "--where", "temp=-1.5", "--topic", "json", "--json")
    assert [json.loads(line)["id"] for line in text(done).splitlines()] == [JSON_ID]
    done = appliance.cli("search", "--topic", "many", "-n", "3")
    assert [line.split()[-1] for line in text(done).splitlines()] == ["99,999", "99,998", "99,997"]
    assert done.stderr == b"3 messages found; there may be more: -n or --all\n"
    done = appliance.cli("search", "--topic", "many", "--until", "2027-01-01", "--all", "--json")
    assert len(text(done).splitlines()) == 100_000


def test_search_that_finds_nothing_says_so_by_its_status(appliance):
    done = appliance.cli("search", "nosuchword")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"0 messages found\n")


def test_a_hit_is_coloured_on_a_terminal_only(appliance):
    assert "\x1b[33mline\x1b[0m" in on_a_terminal(appliance, "search", "line")
    assert "\x1b" not in text(appliance.cli("search", "line"))


@pytest.mark.parametrize("words", ['"', "*", "AND", "a AND (", "\ud800", "'; DROP TABLE x", "-"])
def test_any_words_are_a_search_or_an_error_in_words(appliance, words):
    done = appliance.cli("search", "--", words.encode("utf-8", "surrogatepass"))
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr


# --- show


def test_show_lays_json_out_as_it_came(appliance):
    found = text(appliance.cli("show", JSON_ID))
    assert f"id        {JSON_ID}\n" in found
    assert "came with\n{\n" in found
    assert found.endswith(
        '{\n  "n": 12345678901234567890123,\n  "temp": -1.50,\n  "a": 1,\n  "a": 2,\n'
        '  "who": "\\u00e9=1"\n}\n'
    )


def test_show_of_bytes_is_a_hexdump_and_body_every_byte(appliance):
    found = text(appliance.cli("show", BINARY_ID))
    assert re.search(r"^00000040  40 41 42 .* \|@ABCDEFGHIJKLMNO\|$", found, re.MULTILINE)
    assert found.endswith("and 512 bytes more: --body writes every byte\n")
    assert appliance.cli("show", BINARY_ID, "--body").stdout == BINARY


def test_show_of_a_dead_letter_says_why(appliance):
    found = on_a_terminal(appliance, "show", DEAD_ID)
    assert "conflict" in found
    assert "dead \\x1b[31m" in found  # harmless on a terminal


def test_show_has_colours_on_a_terminal_only(appliance):
    assert "\x1b[36m" in on_a_terminal(appliance, "show", JSON_ID)
    assert "\x1b" not in text(appliance.cli("show", JSON_ID))


def test_show_as_json_is_the_apis_answer(appliance):
    found = json.loads(text(appliance.cli("show", JSON_ID, "--json")))
    assert found["body"].encode() == BIG
    assert found["status"] == "stored"


@pytest.mark.parametrize("name", ["nonsense", "01890a5d-ac96-774b-bcce-b302099a8057", "../topics"])
def test_show_of_what_is_not_there_is_an_error_in_words(appliance, name):
    done = appliance.cli("show", name)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"appliance: ")


# --- export


def test_an_export_of_all_topics_has_every_message(appliance):
    topics = [json.loads(line)["topic"] for line in text(appliance.cli("export")).splitlines()]
    assert {topic: topics.count(topic) for topic in set(topics)} == {
        "json": 2, "binary": 1, "many": 100_000, "quoted": 10,
    }  # fmt: skip


def test_an_export_takes_conditions_and_words(appliance):
    done = appliance.cli("export", "--where", "a exists", "--kind", "json", "--columns", "n")
    assert text(done).splitlines()[1].endswith(",12345678901234567890123")
    done = appliance.cli("export", "quoted", "--q", "line")
    assert len(text(done).splitlines()) == 10


def test_an_export_as_ndjson_has_each_message_in_order(appliance):
    rows = [json.loads(line) for line in text(appliance.cli("export", "many")).splitlines()]
    assert [row["body"] for row in rows] == [f"{n},{m}" for n in range(100) for m in range(1000)]


def test_an_export_to_a_file_is_whole_and_counted(appliance, tmp_path):
    path = tmp_path / "quoted.csv"
    path.write_text("before")
    path.chmod(0o640)
    done = appliance.cli("export", "quoted", "--output", str(path), "--json")
    report = json.loads(text(done))
    assert report == {
        "messages": 10, "bytes": path.stat().st_size, "format": "csv", "file": str(path),
    }  # fmt: skip
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["body"] for row in rows] == [f'line\n"{n}"' for n in range(10)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_that_fails_leaves_the_file_before_as_it_was(appliance, tmp_path):
    path = tmp_path / "out.ndjson"
    path.write_text("before")
    done = appliance.cli("export", "nosuch", "-o", str(path))
    assert done.returncode == 1
    assert b"nosuch has never had a message" in done.stderr
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_into_a_folder_that_is_not_there_is_an_error_in_words(appliance, tmp_path):
    done = appliance.cli("export", "json", "-o", str(tmp_path / "none" / "x.csv"))
    assert done.returncode == 78
    assert b"--output: " in done.stderr
    assert b"No such file" in done.stderr


def test_columns_of_an_export_are_read_by_a_csv_reader(appliance):
    found = text(appliance.cli("export", "json", "--columns", "n,temp,a,who,none"))
    header, *rows = csv.reader(io.StringIO(found, newline=""))
    assert header[3:] == ["n", "temp", "a", "who", "none"]
    assert [row[3:] for row in rows] == [
        ["12345678901234567890123", "-1.50", "2", "é=1", ""], [""] * 5,
    ]  # fmt: skip


def test_an_export_for_excel_begins_with_a_mark(appliance):
    done = appliance.cli("export", "json", "--excel")
    assert done.stdout.startswith(b"\xef\xbb\xbfid,")


def test_an_export_is_of_a_span_of_time_and_of_a_number(appliance):
    done = appliance.cli("export", "json", "--since", "2026-01-01", "--until", "2027-01-01")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [JSON_ID]
    assert len(appliance.cli("export", "many", "-n", "7").stdout.splitlines()) == 7


def test_an_exports_reader_that_goes_away_ends_it_quietly(appliance):
    done = subprocess.run(
        f"{APPLIANCE} export many | head -n 1", shell=True, env=appliance.env, check=False,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["body"] == "0,0"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "json", "--format", "ndjson", "--columns", "a"], b"needs --format csv"),
        (["export", "json", "--json"], b"needs --output"),
        (["export", "JSON"], b"try 'json'"),
        (["export", "json", "--format", "xls"], b"'xls' is not one of"),
    ],
)
def test_a_wrong_use_of_export_is_told(appliance, arguments, words):
    done = appliance.cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


# --- open


def test_open_prints_a_link_that_signs_in(appliance):
    done = appliance.cli("open", "--json")
    link = json.loads(text(done))
    address = f"http://{appliance.config.http}/console/"
    assert re.fullmatch(re.escape(address) + r"#login=[\w-]{20,}", link["url"])
    assert link["seconds"] == 60
    assert text(appliance.cli("open")).startswith(f"{address}#login=")


def test_open_gives_the_link_to_a_browser_in_no_argument(appliance, tmp_path):
    browser, told = tmp_path / "browser", tmp_path / "told"
    browser.write_text(f'#!/bin/sh\necho "$@" > {told}.new\nmv {told}.new {told}\n')
    browser.chmod(0o755)
    env = {**appliance.env, "BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    link = text(appliance.cli("open", "--browser", env=env)).strip()
    wait_until(told.exists, "the browser was started")
    address = told.read_text().strip()
    assert "login" not in address
    page = Path(address.removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert f'0;url={link}"' in page.read_text()


def test_open_of_a_public_address_prints_that(appliance):
    env = {**appliance.env, "APPLIANCE_PUBLIC_URL": "https://inbox.example.com"}
    assert text(appliance.cli("open", env=env)).startswith("https://inbox.example.com/console/#")
