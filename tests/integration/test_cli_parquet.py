"""`appliance export --format parquet` against a real API, read back by pyarrow."""

import json
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from api_alone import ApiAlone
from harness import APPLIANCE
from pyarrow import parquet
from store_contents import IDS, TIME, lines

from appliance.model.wire import single

ROOT = Path(__file__).parents[2]
BODIES = [
    b"text", "grüße 🎉".encode(), b"a\0b", bytes(range(256)), b'{"a":1}', b"\xed\xa0\x80",
    b"x" * 100_000,
]  # fmt: skip
VALUES = [
    '{"i":1,"big":5,"huge":1,"f":1.5,"mix":1,"s":"x","ok":true,"o":{"a":[1.0]},"odd":1}',
    '{"i":-9223372036854775808,"big":12345678901234567890123,"huge":1e400,"f":2,"mix":"1"}',
    '{"i":9223372036854775807,"big":-99999999999999999999999999999999999999,"f":-0.1,"mix":null}',
    '{"i":null,"odd":9007199254740993,"s":"\\u00e9","ok":false}',
    '{"odd":0.5}',
    "no json",
]


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    made = ApiAlone(tmp_path_factory.mktemp("api"))
    made.fill(
        *(single("bodies", IDS.new(), TIME, b, "a/b", '{"via":"http"}') for b in BODIES),
        *(single("values", IDS.new(), TIME, value.encode()) for value in VALUES),
        *(
            lines([b'{"n":%d}' % n for n in range(start, start + 1000)], "many")
            for start in range(0, 120_000, 1000)
        ),
    )
    yield made.start()
    made.close()


def table(appliance, path, *arguments):
    done = appliance.cli("export", *arguments, "--output", str(path), "--json")
    assert done.returncode == 0, done.stderr
    found = parquet.read_table(path)
    assert json.loads(done.stdout)["messages"] == found.num_rows
    return found


def test_every_body_is_exact_and_text_is_text(appliance, tmp_path):
    found = table(appliance, tmp_path / "bodies.parquet", "bodies")
    rows = found.to_pylist()
    assert [
        row["body_bytes"] if row["body"] is None else row["body"].encode() for row in rows
    ] == BODIES
    assert [row["body"] is None for row in rows] == [
        False, False, True, True, False, True, False,
    ]  # fmt: skip
    assert rows[0]["received_at"] == datetime.fromisoformat(TIME)
    assert (rows[0]["topic"], rows[0]["content_type"]) == ("bodies", "a/b")
    assert json.loads(rows[0]["meta"]) == {"via": "http"}


def test_a_column_has_the_type_that_holds_each_of_its_values(appliance, tmp_path):
    names = ["i", "big", "huge", "f", "mix", "s", "ok", "o", "odd", "none"]
    found = table(appliance, tmp_path / "x.parquet", "values", "--columns", ",".join(names))
    types = {name: str(found.schema.field(name).type) for name in names}
    assert types == {
        "i": "int64", "big": "decimal128(38, 0)", "huge": "string", "f": "double", "mix": "string",
        "s": "string", "ok": "bool", "o": "string", "odd": "string", "none": "string",
    }  # fmt: skip
    columns = {name: found[name].to_pylist() for name in names}
    assert columns["i"] == [1, -(2**63), 2**63 - 1, None, None, None]
    assert columns["big"][:3] == [
        5, 12345678901234567890123, Decimal("-" + "9" * 38),
    ]  # fmt: skip
    assert columns["huge"][:2] == ["1", "1e400"]
    assert columns["f"][:3] == [1.5, 2.0, -0.1]
    assert columns["mix"][:3] == ["1", "1", None]
    assert (columns["s"][3], columns["ok"][3], columns["o"][0]) == ("é", False, '{"a":[1.0]}')
    assert columns["odd"] == ["1", None, None, "9007199254740993", "0.5", None]
    assert columns["none"] == [None] * 6


def test_a_long_export_is_several_groups_of_rows_in_order(appliance, tmp_path):
    path = tmp_path / "many.parquet"
    found = table(appliance, path, "many", "--columns", "n")
    assert found["n"].to_pylist() == list(range(120_000))
    assert parquet.ParquetFile(path).num_row_groups == 3


def test_conditions_choose_the_rows_and_none_is_a_table_too(appliance, tmp_path):
    found = table(appliance, tmp_path / "a.parquet", "many", "--where", "n<3", "--columns", "n")
    assert found["n"].to_pylist() == [0, 1, 2]
    found = table(appliance, tmp_path / "b.parquet", "many", "--where", "n<0")
    assert (found.num_rows, found.column_names[:3]) == (0, ["id", "topic", "received_at"])


def test_parquet_goes_through_a_pipe(appliance):
    done = subprocess.run(
        f"{APPLIANCE} export many --format parquet -n 5 | cat", shell=True, env=appliance.env,
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    found = parquet.read_table(pa.BufferReader(done.stdout))
    assert found["body"].to_pylist() == [f'{{"n":{n}}}' for n in range(5)]


def test_a_host_without_pyarrow_is_told_how_to_install_it(appliance, tmp_path):
    """A folder before all others in which the package can't be imported."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "export", "many", "-o", str(tmp_path / "x.parquet")],
        env={**appliance.env, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True,
        check=False, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert b"pip install 'queue-appliance[parquet]'" in done.stderr
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("columns", ["a..b", "x" * 300])
def test_columns_that_are_no_paths_are_refused_before_anything_is_written(
    appliance, tmp_path, columns
):
    path = tmp_path / "x.parquet"
    done = appliance.cli("export", "many", "--columns", columns, "-o", str(path))
    assert done.returncode == 1
    assert b"columns: " in done.stderr
    assert not path.exists()
