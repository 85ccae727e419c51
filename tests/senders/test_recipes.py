"""The recipes of docs/send.md work as they are written there.

Each recipe's commands are run, its sender sends with what the recipe configures, and its SQL finds
what was sent. The senders themselves where they can be had: the providers' libraries, Chromium,
curl, syslog-ng, OpenTelemetry. Fluent Bit and Vector are not in Debian: their requests are made
from the recipe's configuration, as their documentation describes them.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
import shippers
from browser import Website
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from recipes import PLACEHOLDER, PUBLIC_URL, Kitchen, Recipe, recipes
from syslog_ng import SyslogNg
from webhooks import SENDERS, Event, Webhook, event, github

pytestmark = pytest.mark.slow

#: The page that the recipes send from.
PAGE = "https://www.example.com"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(public_url=PUBLIC_URL)


@pytest.fixture
def kitchen(running, tmp_path):
    return Kitchen(running, tmp_path)


def post(kitchen: Kitchen, webhook: Webhook) -> None:
    answer = httpx.post(
        kitchen.local, headers=webhook.headers, content=webhook.body, timeout=30, trust_env=False
    )
    assert answer.is_success, answer.text


def send_github(kitchen, recipe):
    kitchen.follow(recipe)
    secret = (kitchen.folder / "github.secret").read_text().removesuffix("\n")
    post(kitchen, github(secret, event(repository={"full_name": "octo/hello"})))
    return [("push", "octo/hello")]


def send_stripe(kitchen, recipe):
    kitchen.write("stripe.secret", "whsec_of_stripe\n")
    kitchen.follow(recipe)
    told = event(type="invoice.paid", data={"object": {"id": "in_1"}})
    post(kitchen, SENDERS["stripe"].sign("whsec_of_stripe", told))
    return [("invoice.paid", "in_1")]


def send_slack(kitchen, recipe):
    kitchen.write("slack.secret", "of slack\n")
    kitchen.follow(recipe)
    check = event(type="url_verification", challenge="c")
    told = event(type="event_callback", event={"type": "message", "text": "hello"})
    for each in (check, told):
        post(kitchen, SENDERS["slack"].sign("of slack", each))
    return [("message", "hello")]


def send_shopify(kitchen, recipe):
    kitchen.write("shopify.secret", "of shopify\n")
    kitchen.follow(recipe)
    told = event()
    post(kitchen, SENDERS["shopify"].sign("of shopify", told))
    return [("orders/create", "example.myshopify.com", told.id)]


def send_twilio(kitchen, recipe):
    kitchen.write("twilio.secret", "of twilio\n")
    address = kitchen.follow(recipe)
    told = Event("t1", json.dumps({"From": "+4930123", "Body": "Gr\u00fc\u00dfe & mehr"}).encode())
    post(kitchen, SENDERS["twilio"].sign("of twilio", told, address))
    return [("+4930123", "Gr\u00fc\u00dfe & mehr")]


def send_standard(kitchen, recipe):
    sender = SENDERS["svix"]
    kitchen.write("standard.secret", sender.secret + "\n")
    kitchen.follow(recipe)
    told = event(type="order.created")
    post(kitchen, sender.sign(sender.secret, told))
    return [("order.created", told.body.decode())]


def send_form(kitchen, recipe):
    with Website() as website:
        kitchen.follow(at_home(recipe, website))
        website.pages["/thanks"] = "Thank you"
        website.pages["/"] = (
            kitchen.filled(recipe.block("html"))
            + """
            <script>
            const form = document.forms[0];
            form.elements.email.value = "ada@example.org";
            form.elements.message.value = "2 < 3 & \\u00fc";
            form.requestSubmit(form.querySelector("button"));
            </script>"""
        )
        website.visit("/", until="/thanks", folder=kitchen.folder)
    return [("ada@example.org", "2 < 3 & \u00fc")]


def send_fetch(kitchen, recipe):
    with Website() as website:
        kitchen.follow(at_home(recipe, website))
        website.pages["/done"] = ""
        website.pages["/shop"] = f"""
            <script type="module">
            let problem = "";
            try {{
              {kitchen.filled(recipe.block("js"))}
            }} catch (error) {{ problem = `${{error}}`; }}
            await fetch("/done", {{method: "POST", body: problem}});
            </script>"""
        website.visit("/shop", until="/done", folder=kitchen.folder)
        assert website.bodies("/done") == [b""]
    return [("/shop", "buy")]


def at_home(recipe: Recipe, website: Website) -> Recipe:
    """Return the recipe for a page that is ours, and not the one in the text."""
    assert any(PAGE in text for _, text in recipe.blocks)
    return recipe._replace(
        blocks=[(language, text.replace(PAGE, website.origin)) for language, text in recipe.blocks]
    )


def send_postman(kitchen, recipe):
    kitchen.follow(recipe)  # Postman imports the command; curl understands it too
    client = f"curl/{subprocess.check_output(['curl', '--version'], text=True).split()[1]}"
    return [(client, '{"hello": "from Postman"}')]


def send_micropython(kitchen, recipe):
    kitchen.follow(recipe)
    program = kitchen.write("main.py", kitchen.filled(recipe.block("python")) + "\n")
    assert PLACEHOLDER not in program.read_text()
    # Its `requests` is a part of the one that is here.
    checked = program.read_text().replace("\nsend(", "\nassert send(")
    subprocess.run([sys.executable, "-c", checked], check=True, timeout=30)
    subprocess.run([sys.executable, "-c", checked], check=True, timeout=30)  # the same reading
    kitchen.wait_for(recipe, [("kitchen-1", 21.5)])
    for number in (2, 3):
        assert answer_to(kitchen, as_micropython(kitchen, number)).startswith(b"HTTP/1.1 202")
    get = f"GET {path(kitchen)}?id=kitchen-4&temperature=20.5 HTTP/1.0\r\n\r\n".encode()
    assert b" 202 " in answer_to(kitchen, get).split(b"\r\n")[0]
    return [("kitchen-4", "20.5"), ("kitchen-3", 3), ("kitchen-2", 2), ("kitchen-1", 21.5)]


def path(kitchen: Kitchen) -> str:
    return kitchen.local.removeprefix(kitchen.stack.url)


def as_micropython(kitchen: Kitchen, number: int) -> bytes:
    """Return a request as MicroPython's `requests` writes it: no port, no spaces to spare."""
    body = b'{"id": "kitchen-%d", "temperature": %d}' % (number, number)
    return (
        f"POST {path(kitchen)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


def answer_to(kitchen: Kitchen, request: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes until it is closed."""
    host, port = kitchen.stack.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(request)
        return b"".join(iter(lambda: link.recv(65536), b""))


def send_fluent_bit(kitchen, recipe):
    kitchen.follow(recipe)
    configuration = recipe.block("ini").replace("/in/SECRET", path(kitchen))
    records = [{"log": f"line {number}"} for number in (1, 2)]
    answer = shippers.fluent_bit(configuration, records, kitchen.stack.url)
    assert 200 <= answer.status_code <= 205, answer.text  # what else it takes for a failure
    time = "2026-11-27T20:00:00.123456Z"
    return [(time, "line 2"), (time, "line 1")]


def send_vector(kitchen, recipe):
    kitchen.follow(recipe)
    events = [
        {"message": f"line {number}", "timestamp": "2026-11-27T20:00:00Z"} for number in (1, 2)
    ]
    answer = shippers.vector(kitchen.filled(recipe.block("toml")), events)
    assert answer.is_success, answer.text
    return [("2026-11-27T20:00:00Z", "line 2"), ("2026-11-27T20:00:00Z", "line 1")]


def send_syslog_ng(kitchen, recipe):
    kitchen.follow(recipe)
    with SyslogNg(kitchen.folder, kitchen.filled(recipe.block("conf"))) as daemon:
        daemon.log("caf\u00e9 1", "caf\u00e9 2")
        rows = [("app", "caf\u00e9 2"), ("app", "caf\u00e9 1")]
        kitchen.wait_for(recipe, rows)
    return rows


#: A program that logs through OpenTelemetry's exporter, as the environment sets it up.
OTEL = """
import logging
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

provider = LoggerProvider()
provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
logging.getLogger("till").addHandler(LoggingHandler(logger_provider=provider))
for number in range(100):
    logging.getLogger("till").warning("sold %d", number)
assert provider.force_flush()
provider.shutdown()
"""


def send_opentelemetry(kitchen, recipe):
    kitchen.follow(recipe)
    program = kitchen.write("till.py", OTEL)
    (exports,) = (text for _, text in recipe.blocks if text.startswith("export "))
    kitchen.shell(f"{kitchen.filled(exports)}\n{sys.executable} {program}")
    (row,) = kitchen.stack.wait_rows(1, "otel-logs")
    records = ExportLogsServiceRequest.FromString(row["body"]).resource_logs[0].scope_logs[0]
    texts = [record.body.string_value for record in records.log_records]
    assert texts == [f"sold {number}" for number in range(100)]
    return [("application/x-protobuf", True)]


SENDS: dict[str, Callable[[Kitchen, Recipe], list[tuple]]] = {
    "GitHub": send_github,
    "Stripe": send_stripe,
    "Slack": send_slack,
    "Shopify": send_shopify,
    "Twilio": send_twilio,
    "Standard Webhooks": send_standard,
    "HTML form": send_form,
    "Browser fetch": send_fetch,
    "Postman": send_postman,
    "ESP32 and MicroPython": send_micropython,
    "Fluent Bit": send_fluent_bit,
    "Vector": send_vector,
    "syslog-ng": send_syslog_ng,
    "OpenTelemetry": send_opentelemetry,
}


def test_every_recipe_has_a_sender_here_and_every_sender_a_recipe():
    assert list(recipes()) == list(SENDS)


@pytest.mark.parametrize("title", SENDS)
def test_recipe_works_as_it_is_written(kitchen, title):
    recipe = recipes()[title]
    expected = SENDS[title](kitchen, recipe)
    assert expected
    kitchen.wait_for(recipe, expected)
