"""Parts of handlers: the rules, the interface, the function that splits, the template."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from appliance import config as configuration
from appliance.cli.commands.handler import handler
from appliance.errors import StoreLockedError
from appliance.handle import handler_frames
from appliance.handle.handler_loop import HandlerLoop
from appliance.handler import HandlerMessage
from appliance.machine.pulse import Pulse
from appliance.model.handler_outcomes import result_ids
from appliance.model.handler_rules import HandlerRules, parse_handler_rules
from appliance.model.ids import IdSource, is_id
from appliance.model.timestamps import now
from appliance.model.topics import CANARY_TOPIC
from appliance.model.wire import single
from appliance.split_handler import split
from appliance.store import open_store


def message(body, **of):
    return HandlerMessage("orders", "an-id", body, **of)


def test_the_first_rule_that_matches_a_topic_counts():
    rules = parse_handler_rules("a.b=m:one, a.*=m:two, *=m:three")
    assert [rules.of(t) for t in ("a.b", "a.c", "a.b", "b")] == [
        "m:one", "m:two", "m:one", "m:three",
    ]  # fmt: skip
    assert rules.functions == ["m:one", "m:two", "m:three"]
    assert HandlerRules().of("a") is None


def test_the_appliances_own_canaries_have_no_handler():
    assert parse_handler_rules("*=m:f").of(CANARY_TOPIC) is None


def test_ids_of_results_are_valid_and_the_same_each_time():
    name = "01a213ff-ecfd-7cc0-8000-b5a100000000"
    assert result_ids(name, 1) == [name]
    many = result_ids(name, 2000)
    assert len(set(many)) == 2000
    assert all(map(is_id, many))
    assert many == result_ids(name, 2000)
    assert set(many).isdisjoint(result_ids(name.replace("0000", "0001"), 2000))


def test_a_replaced_body_becomes_bytes_and_json_says_so():
    one = message(b"x", content_type="text/plain")
    assert one.replace(body="\u00fc").body == "\u00fc".encode()
    assert one.replace(body=bytearray(b"y")).body == b"y"
    changed = one.replace(body={"a": [1]}, topic="other")
    assert (changed.body, changed.content_type, changed.topic) == (
        b'{"a":[1]}', "application/json", "other",
    )  # fmt: skip
    assert one.replace(body=None).body == b"null"
    assert one.replace(topic="t").content_type == "text/plain"
    assert one.replace(content_type=None).content_type is None


def test_headers_are_those_of_the_meta():
    assert message(b"x", meta={"headers": {"x-kind": "a"}}).headers == {"x-kind": "a"}
    assert message(b"x", meta={"headers": 3}).headers == {}


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ('[1.0, {"a": 1e400}, "x,]"]', ["1.0", '{"a": 1e400}', '"x,]"']),
        (" [ [1], [] ] ", ["[1]", "[]"]),
        ('{"Records":[{"a":1},2]}', ['{"a":1}', "2"]),
        ('{"a":1}\n\n{"b":2}\r\n', ['{"a":1}', '{"b":2}']),
        ("[]", []),
    ],
)
def test_bodies_of_several_values_are_split_as_they_are_written(body, parts):
    results = split(message(body.encode()))
    assert [each.body.decode() for each in results] == parts
    assert {each.content_type for each in results} <= {"application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"hello", b"[1,", b"[1] 2", b"[1 2]", b'{"a":1}', b"\xff[1]", b'{"Records":[1],"more":2}',
        b'{"Records":[1]} 2', b'{"others":[1]}', b"[" * 100_000, b'{"a":1}\nnot json',
    ],
    ids=lambda body: body[:20],
)  # fmt: skip
def test_any_other_body_stays_as_it_came(body):
    one = message(body, content_type="text/x")
    assert split(one) is one


def test_frames_are_read_as_they_were_written_and_refused_beyond_the_bound():
    data = handler_frames.frame({"a": 1}, [b"xy", b"z"])

    def reader(data):
        left = [data]

        def receive(size):
            part, left[0] = left[0][:size], left[0][size:]
            return part

        return receive

    head, bodies = handler_frames.read(reader(data), 3)
    assert (head, handler_frames.cut(bodies, [2, 1])) == ({"a": 1}, [b"xy", b"z"])
    with pytest.raises(handler_frames.FrameError):
        handler_frames.read(reader(data), 2)
    for sizes in ([3, 1], [-1, 4], ["2", 1]):
        with pytest.raises(handler_frames.FrameError):
            handler_frames.cut(bodies, sizes)


class _Locked:
    """The store's handling, of which one call fails as if another program held the lock."""

    def __init__(self, handling, name):
        self._handling = handling
        self._left = {name}

    def __getattr__(self, name):
        if name in self._left:
            self._left.remove(name)
            return self._fail
        return getattr(self._handling, name)

    def _fail(self, *arguments):
        self._handling.take(*arguments) if len(arguments) == 4 else None
        raise StoreLockedError("locked")


@pytest.mark.parametrize("name", ["take", "put_back"])
def test_messages_that_a_process_got_while_the_database_failed_are_not_forgotten(tmp_path, name):
    config = configuration.load(
        {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_HANDLERS": "orders=absent:f" if name == "put_back" else
            "orders=appliance.split_handler:split",
        }
    )  # fmt: skip
    store = open_store(config)
    store.migrate()
    writer = store.open_writer()
    writer.store([single("orders", IdSource().new(), now(), b"[1,2]")])
    writer.close()
    loop = HandlerLoop(
        config, _Locked(store.handling, name), store.open_writer, Pulse(config, "handle")
    )
    with pytest.raises(StoreLockedError):
        loop._turn()
    if name == "take":
        loop._turn()
        assert [body for _, _, body in store.rows()] == ["1", "2"]
    else:
        loop._turn()
        assert len(store.handling.take("absent:f", "other", 1, 2**20)) == 1
    loop._end()
    store.reader.close()


@pytest.fixture
def command(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")})

    def run(*arguments, **options):
        return CliRunner().invoke(handler, arguments, obj=config, **options)

    return run


def test_the_template_passes_its_own_test_and_can_be_tried(command, tmp_path):
    made = command("new", "enrich", "--folder", str(tmp_path))
    assert made.exit_code == 0, made.output
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_enrich.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr
    tried = command("try", "enrich:handle", "--folder", str(tmp_path), "--json", input='{"a": 1}')
    assert json.loads(tried.output)["body"] == '{"a":1,"handled_by":"enrich"}'
    failed = command("try", "enrich:handle", "--folder", str(tmp_path), input="no json")
    assert "rejected: no JSON" in str(failed.exception)
    again = command("new", "enrich", "--folder", str(tmp_path))
    assert "is there already" in str(again.exception)


@pytest.mark.parametrize("name", ["json", "Upper", "a-b", "../x", "1x"])
def test_a_name_that_no_module_should_have_is_refused(command, tmp_path, name):
    assert "NAME" in str(command("new", name, "--folder", str(tmp_path)).exception)
    assert list(tmp_path.glob("*.py")) == []
