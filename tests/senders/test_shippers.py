"""Log shippers keep what they can't send, and the appliance stores each line that it takes."""

import json
from itertools import count

import pytest
from harness import wait_until
from load import wait_drained
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from recipes import PLACEHOLDER, recipes
from syslog_ng import SyslogNg

pytestmark = pytest.mark.slow

NUMBERS = count(1)


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack()


def make_inbox(running, topic):
    answer = running.client.post("/v1/inboxes", json={"topic": topic})
    assert answer.status_code == 201, answer.text
    return answer.json()["address"]


def test_syslog_ng_sends_every_line_in_order_although_the_appliance_was_away(running, tmp_path):
    address = make_inbox(running, "away")
    configuration = recipes()["syslog-ng"].block("conf").replace(PLACEHOLDER, address)
    wanted = [f"line {number} of <script> & \\ \" ' \u00fc" for number in range(300)]
    with SyslogNg(tmp_path, configuration.replace("timeout(15)", "timeout(2)")) as daemon:
        daemon.log(*wanted[:100])
        running.wait_rows(100, "away")
        running.api.stop()
        daemon.log(*wanted[100:200])
        wait_until(lambda: "error" in daemon.output().lower(), "it can't send", 20, daemon.output)
        running.api.start()
        running.wait_ready()
        daemon.log(*wanted[200:])
        wait_until(
            lambda: wanted[-1] in messages(running, "away"), "all of it came", 90,
            lambda: daemon.output()[-2000:],
        )  # fmt: skip
    wait_drained(running)
    # A batch whose answer was lost would be there twice: the sender has no key for it.
    found = messages(running, "away")
    assert list(dict.fromkeys(found)) == wanted


def messages(running, topic):
    return [json.loads(row["body"])["MESSAGE"] for row in running.rows(topic)]


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_opentelemetrys_exporter_takes_the_answer_for_success(running, compression):
    topic = f"traces-{compression.value}"
    exporter = OTLPSpanExporter(make_inbox(running, topic), compression=compression)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for number in range(50):
        with provider.get_tracer("till").start_as_current_span(f"sale {number}"):
            pass
    assert provider.force_flush()
    provider.shutdown()
    (row,) = running.wait_rows(1, topic)
    spans = ExportTraceServiceRequest.FromString(row["body"]).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in spans] == [f"sale {number}" for number in range(50)]
    assert row["content_type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("path", "content_type", "content"),
    [
        # as they are sent to an address of their own, without our parameters
        ("?split=array", "application/json", b'[{"log":"a"},{"log":"b"}]'),  # Fluent Bit json
        ("?split=ndjson", "application/json", b'{"log":"a"}\n{"log":"b"}\n'),  # json_lines
        ("", "application/x-ndjson", b'{"log":"a"}\n{"log":"b"}\n'),  # Vector, rsyslog, Elastic
        ("", "application/jsonl", b'{"log":"a"}\n{"log":"b"}'),
        ("", "application/ndjson; charset=utf-8", b'{"log":"a"}\r\n{"log":"b"}\r\n'),
        ("?split=lines", "text/plain", b'{"log":"a"}\n{"log":"b"}\n'),
    ],
)
@pytest.mark.parametrize("door", ["token", "inbox"])
def test_each_record_of_a_shippers_request_is_a_row(running, door, path, content_type, content):
    topic = f"records-{next(NUMBERS)}"
    url, headers = f"/v1/topics/{topic}/messages{path}", {"Content-Type": content_type}
    if door == "inbox":
        url, headers["Authorization"] = make_inbox(running, topic) + path, ""
    answer = running.client.post(url, content=content, headers=headers)
    assert answer.status_code == 202, answer.text
    rows = running.wait_rows(2, topic)
    assert [row["body"] for row in rows] == ['{"log":"a"}', '{"log":"b"}']
