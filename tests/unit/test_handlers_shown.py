"""Handlers as the console, the metrics, the calls and the alerts show them."""

import json
import re
import time

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.alerts.alert_conditions import AlertConditions
from appliance.api import scrape
from appliance.handle.handler_numbers import COUNTER, OTHER, HandlerNumbers
from appliance.machine import signs
from appliance.machine.pulse import Pulse
from appliance.metrics import board
from appliance.metrics.families import FAMILIES
from appliance.model.handler_outcomes import HandlerOutcome
from appliance.model.ids import IdSource
from appliance.model.timestamps import timestamp
from appliance.model.wire import Message, single
from appliance.store.access_rows import Actor

IDS = IdSource()
RULES = "orders=shop:check, logs.*=shop:cut, old.*=shop:check"


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_MIN_FREE_BYTES": "0",
            "APPLIANCE_HANDLERS": RULES,
        }
    )


@pytest.fixture
def client(config):
    client = ConsoleClient(config)
    client.sign_in()
    yield client
    client.close()


def put(client, topic, ago=0.0):
    writer = client.store.open_writer()
    writer.store([single(topic, IDS.new(), timestamp(time.time() - ago), b"x")])
    writer.close()


def telling(config, process, trouble):
    """Return the sign of life of a process that has this trouble."""
    pulse = Pulse(config, process, environ={})
    pulse.tell(signs.HANDLER_TROUBLE, trouble)
    return pulse


def outcome(*, results=None, retry_at=None):
    return HandlerOutcome(1, results, "", 1, retry_at)


def counted(functions, *outcomes):
    numbers = HandlerNumbers(functions)
    numbers.add(outcomes)
    return numbers


MADE = [("t", Message("", "", b"x"))]
OUTCOMES = (
    ("shop:check", outcome(results=MADE)),
    ("shop:check", outcome(results=MADE)),
    ("shop:check", outcome(results=[])),
    ("shop:cut", outcome(retry_at=5)),
    ("shop:cut", outcome()),
)


def test_outcomes_are_counted_for_each_function():
    counters = counted(["shop:check", "shop:cut"], *OUTCOMES).numbers().counters
    assert {name: n for name, n in counters.items() if n} == {
        f"{COUNTER}:handled:shop:check": 2,
        f"{COUNTER}:dropped:shop:check": 1,
        f"{COUNTER}:failed:shop:cut": 2,
        f"{COUNTER}:dead:shop:cut": 1,
    }
    assert counters[f"{COUNTER}:dead:shop:check"] == 0


def test_counts_of_ever_so_many_functions_fit_into_a_record_of_the_board():
    functions = [f"{'m' * 190}{n}:f" for n in range(50)]
    numbers = HandlerNumbers(functions)
    numbers.add([(each, outcome(results=MADE)) for each in functions])
    for place in range(len(numbers.took.buckets)):
        numbers.took.buckets[place] = 10**9
    shown = numbers.numbers()
    big = {name: 10**9 + n for name, n in shown.counters.items()}
    record = {"process": "handle", **shown._replace(counters=big)._asdict()}
    assert len(json.dumps(record)) < board.FILE_BYTES
    named = [each for each in functions if f"{COUNTER}:handled:{each}" in shown.counters]
    assert named
    assert shown.counters[f"{COUNTER}:handled:{OTHER}"] == 50 - len(named)


def test_the_page_shows_what_waits_for_each_function_and_what_each_did(client, config):
    put(client, "orders", ago=120)
    put(client, "orders")
    put(client, "logs.web")
    numbers = counted(config.handlers.functions, *OUTCOMES)
    with board.shown(config, "handle", numbers.numbers):
        page = client.get("/console/handlers").text
    assert "No process runs the functions" in page
    check, cut = (words(row) for row in page.split("<tr data-row>")[1:])
    assert check.startswith(
        "shop:check orders, old.* 2 waiting the oldest came 2 min ago "
        "2 handled 1 dropped 0 failures 0 dead"
    )
    assert cut.startswith("shop:cut logs.* 1 waiting the oldest came ")
    assert "0 handled 0 dropped 2 failures 1 dead" in cut
    assert 'href="/console/dead-letters?reason=handler-failed">1</a>' in page


def words(html):
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def test_the_page_says_which_function_can_not_be_loaded(client, config):
    with telling(config, "handle", "can't load shop:<check>"):
        page = client.get("/console/handlers").text
    assert "1 process runs the functions" in page
    assert "can&#39;t load shop:&lt;check&gt;: its messages wait" in page


def test_the_page_is_for_administrators(client):
    _, secret = client.services.tokens.create("reader", ["read"], Actor("test", ""), topics=["*"])
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)
    assert client.get("/console/handlers").status_code == 403


def test_the_page_without_a_handler_says_so(tmp_path):
    client = ConsoleClient(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    client.sign_in()
    assert "No topic has a handler." in client.get("/console/handlers").text
    client.close()


def test_each_function_has_metrics_under_its_name(client, config):
    put(client, "orders", ago=120)
    put(client, "orders")
    numbers = counted(config.handlers.functions, *OUTCOMES)
    with board.shown(config, "handle", numbers.numbers):
        found = scrape.samples(client.services)
    assert found["handler_waiting_messages"] == {("shop:check",): 2, ("shop:cut",): 0}
    assert 120 <= found["handler_waiting_age_seconds"]["shop:check",] < 180
    assert found["handler_waiting_age_seconds"]["shop:cut",] == 0
    assert found["handler_messages_total"]["handled", "shop:check"] == 2
    assert found["handler_messages_total"]["dead", "shop:cut"] == 1
    assert found.keys() <= {family.name for family in FAMILIES}


def late(client, config, *, process="handle"):
    conditions = AlertConditions(config, client.store.reader, handling=client.store.handling)
    with telling(config, process, "can't load shop:cut"):
        found = conditions.now()
    return {each.key: each for each in found if each.subject not in ("api", "worker")}


def test_messages_that_wait_too_long_for_their_handler_raise_an_alert_under_its_name(
    client, config
):
    put(client, "orders", ago=290)
    assert late(client, config) == {}
    put(client, "orders", ago=730)
    put(client, "logs.web")
    (condition,) = late(client, config).values()
    assert (condition.kind, condition.subject) == ("handler", "shop:check")
    assert condition.patience == 60
    assert condition.text == (
        "2 messages wait for it, since 12 min (can't load shop:cut): appliance handler list"
    )


def test_handlers_that_no_process_runs_raise_an_alert(client, config):
    put(client, "orders", ago=730)
    found = late(client, config, process="other")
    assert found["heartbeat:handle"].text == "no handle runs, and a topic has a handler"
    assert "(no handle runs)" in found["handler:shop:check"].text


def test_many_functions_that_are_late_are_one_alert(tmp_path):
    rules = ",".join(f"t{n}=m:f{n}" for n in range(21))
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_HANDLERS": rules})
    client = ConsoleClient(config)
    for number in range(21):
        put(client, f"t{number}", ago=400)
    assert late(client, config)["handler"].text == (
        "messages wait for 21 functions: appliance handler list"
    )
    client.close()
