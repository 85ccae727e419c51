"""/metrics on a real stack, its alert rules and its dashboard on a real Prometheus."""

import json
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from harness import free_port, wait_until
from load import wait_accepting, wait_drained

pytestmark = pytest.mark.slow

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=2)


@pytest.fixture(scope="module")
def prometheus(running, tmp_path_factory):
    """A Prometheus that scrapes the stack as deploy/monitoring has it, every second."""
    folder = tmp_path_factory.mktemp("prometheus")
    wanted = (MONITORING / "prometheus.yml").read_text()
    wanted = wanted.replace("127.0.0.1:8080", running.url.removeprefix("http://"))
    wanted = wanted.replace("_interval: 15s", "_interval: 1s")
    (folder / "prometheus.yml").write_text(wanted)
    (folder / "alerts.yml").write_bytes((MONITORING / "alerts.yml").read_bytes())
    (folder / "appliance.token").write_text(running.token)
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address={address}", "--log.level=warn"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    client = httpx.Client(base_url=f"http://{address}/api/v1", timeout=30, trust_env=False)

    def scraped():
        assert started.poll() is None, (folder / "log").read_text()
        try:
            answer = client.get("/query", params={"query": "count_over_time(up[1m])"})
        except httpx.TransportError:
            return False
        if answer.status_code != 200:  # it is starting
            return False
        found = answer.json()
        return found["data"]["result"] and float(found["data"]["result"][0]["value"][1]) > 3

    try:
        wait_until(scraped, "it has scraped", 60, (folder / "log").read_text)
        yield client
    finally:
        client.close()
        started.kill()
        started.wait()


def read(running):
    """Return the value of each series."""
    answer = running.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def settled(running):
    """Wait until all processes have shown all that they counted; return the series that count."""

    def counts():
        return {n: v for n, v in read(running).items() if re.search("_total|_bucket|_count$", n)}

    wait_drained(running)
    before = counts()
    while True:
        time.sleep(1.5)  # each shows its numbers once a second
        if (now := counts()) == before:
            return now
        before = now


def test_text_is_what_prometheus_own_checker_takes(running):
    running.publish("checked", b"x")
    text = running.client.get("/metrics").content
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_counters_show_where_each_message_went(running):
    before = settled(running)
    for _ in range(5):
        assert running.publish("counted", b"x").status_code == 202
    assert running.publish("counted", b"\n".join(b"{}" for _ in range(7)), **NDJSON).is_success
    bad = running.publish("counted", b"{}\nno\n", {"on-bad": "dead-letter"}, **NDJSON)
    assert bad.status_code == 202
    assert running.publish("counted", b"").status_code == 400
    assert running.client.get("/v1/nothing").status_code == 404
    settled(running)
    after = read(running)

    def more(series):
        return after[series] - before.get(series, 0)

    assert more("appliance_messages_accepted_total") == 14
    assert more("appliance_messages_stored_total") == 13
    assert more('appliance_messages_dead_total{reason="not-json"}') == 1
    assert more('appliance_requests_refused_total{reason="bad-body"}') == 1
    assert more('appliance_requests_refused_total{reason="not-found"}') == 1
    assert more("appliance_store_lag_seconds_count") == 14
    assert more("appliance_publish_duration_seconds_count") == 14
    assert 0 < more("appliance_store_lag_seconds_sum") < 14 * 30
    assert more("appliance_envelopes_confirmed_total") == 7
    assert after["appliance_messages"] == running.count()
    assert after["appliance_ready"] == 1
    assert after["appliance_queue_consumers"] >= 1
    assert after['appliance_heartbeat_age_seconds{process="worker"}'] < 15
    assert after["appliance_database_size_bytes"] > 4096
    assert after['appliance_disk_free_bytes{disk="data"}'] > 0


def test_counters_do_not_fall_when_processes_are_killed(running):
    running.publish("killed", b"x")
    before = settled(running)
    for process in (*running.workers, running.api):
        process.kill()
        process.start()
    wait_accepting(running)
    running.wait_ready()
    after = read(running)
    fallen = {n: (v, after.get(n)) for n, v in before.items() if after.get(n, -1) < v}
    assert not fallen
    assert after['appliance_process_starts_total{process="worker"}'] == 4
    assert after['appliance_process_starts_total{process="api"}'] == 2


def test_queue_that_is_not_emptied_ages(running):
    for worker in running.workers:
        worker.stop()
    try:
        running.publish("waiting", b"x")
        wait_until(
            lambda: read(running).get("appliance_queue_oldest_age_seconds", 0) > 2, "it ages", 30
        )
        assert read(running)["appliance_ready"] == 0
    finally:
        for worker in running.workers:
            worker.start()
    wait_until(lambda: read(running)["appliance_queue_oldest_age_seconds"] == 0, "emptied", 30)
    running.wait_ready()


def test_metrics_tell_of_all_topics_so_a_token_for_some_gets_none(running):
    def with_token(**members):
        made = running.client.post("/v1/tokens", json={"rights": ["read"], **members})
        assert made.status_code == 201, made.text
        headers = {"Authorization": f"Bearer {made.json()['token']}"}
        return running.client.get("/metrics", headers=headers).status_code

    assert with_token(name="scraper") == 200
    assert with_token(name="some", topics=["orders"]) == 403
    assert httpx.get(f"{running.url}/metrics", trust_env=False).status_code == 401
    assert running.client.get("/metrics?x=1").status_code == 400


def query(prometheus, expression):
    answer = prometheus.get("/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return answer["data"]["result"]


def dashboard():
    """Yield title and query of each panel of the dashboard, as Grafana would ask it."""
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            asked = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "30s")
            yield panel["title"], asked


def test_each_query_of_the_dashboard_shows_something(running, prometheus):
    """All but what can only be shown when something is wrong, or where a supervisor runs."""
    may_be_empty = {"Requests refused a second", "Dead letters by reason, last hour", "Processes"}
    for _ in range(3):
        running.publish("shown", b"x")
    running.publish("shown", b"")

    def empty():
        return {title for title, asked in dashboard() if not query(prometheus, asked)}

    wait_until(
        lambda: empty() <= may_be_empty, "all panels show something", 60, lambda: str(empty())
    )
    asked = "sum(increase(appliance_messages_stored_total[1m]))"
    wait_until(lambda: float(query(prometheus, asked)[0]["value"][1]) > 0, "stored messages grow")


def test_alert_rules_are_sound_and_one_is_raised_for_a_dead_letter(running, prometheus):
    checked = subprocess.run(
        ["promtool", "check", "rules", MONITORING / "alerts.yml"], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr

    def rules():
        groups = prometheus.get("/rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    wait_until(lambda: all(r["health"] == "ok" for r in rules().values()), "evaluated", 30)
    running.publish("dead", b"{}\nno\n", {"on-bad": "dead-letter"}, **NDJSON)
    wait_until(lambda: rules()["ApplianceDeadLetters"]["state"] == "firing", "it is raised", 60)


def test_each_rule_and_only_these_are_in_the_docs():
    named = re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    page = (MONITORING.parents[1] / "docs" / "metrics.md").read_text()
    assert re.findall(r"^\| `(Appliance\w+)`", page, re.MULTILINE) == named
