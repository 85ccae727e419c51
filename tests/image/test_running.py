"""One container, read-only and without any capability, used as its users and operators would."""

import json
import re
import subprocess

import httpx
import pytest
from engine import IMAGE, Container, docker, wait_until

PROGRAMS = (
    *("broker", "api", "worker:worker_0", "worker:worker_1", "janitor", "deliver", "listener"),
)


def test_a_message_posted_over_the_published_port_is_found_as_a_row(running: Container):
    answer = running.publish("greetings", "héllo")
    assert answer.status_code == 202
    message = answer.json()["id"]
    found = wait_until(
        lambda: (got := running.http.get(f"/v1/messages/{message}")).status_code == 200 and got,
        "the message can be read back",
    )
    assert found.json()["body"] == "héllo"
    assert running.http.get(f"/v1/messages/{message}/body").content == "héllo".encode()
    assert running.bodies("greetings") == ["héllo"]


def test_the_line_to_paste_works_where_the_log_is_read(running: Container):
    line = next(line for line in running.logs.splitlines() if line.startswith("  try "))
    command = line.removeprefix("  try ").replace(
        "http://127.0.0.1:8080", str(running.http.base_url).rstrip("/")
    )
    answer = subprocess.check_output(["bash", "-c", command], text=True)
    assert json.loads(answer)["status"] == "queued"


def test_a_request_without_the_token_is_refused(running: Container):
    assert httpx.get(f"{running.http.base_url}/v1/topics").status_code == 401


def test_the_engine_calls_the_container_healthy(running: Container):
    wait_until(lambda: running.inspect(".State.Health.Status") == "healthy", "healthy")
    last = running.inspect(".State.Health.Log")[-1]
    assert json.loads(last["Output"])["ready"] is True


def test_the_appliances_own_commands_work_in_docker_exec(running: Container):
    running.exec("appliance", "publish", "inside", "from inside")
    wait_until(lambda: running.bodies("inside") == ["from inside"], "it is stored")
    assert "worker" in running.exec("appliance", "status")
    assert len(running.exec("appliance", "token").strip()) >= 32


def test_supervisorctl_works_in_docker_exec_as_it_stands(running: Container):
    status = running.status()
    assert {name: status[name][0] for name in PROGRAMS} == dict.fromkeys(PROGRAMS, "RUNNING")
    assert status["migrate"][0] == "EXITED"

    running.exec("supervisorctl", "restart", "worker:*")
    after = running.status()
    for worker in ("worker:worker_0", "worker:worker_1"):
        assert after[worker][0] == "RUNNING"
        assert after[worker][1] != status[worker][1]

    assert '"process": "api"' in running.exec("supervisorctl", "tail", "api")

    running.exec("supervisorctl", "stop", "worker:*")
    assert running.status()["worker:worker_0"][0] == "STOPPED"
    assert running.publish("waiting", "while no worker runs").status_code == 202
    running.exec("supervisorctl", "start", "worker:*")
    wait_until(lambda: running.bodies("waiting") == ["while no worker runs"], "it is stored")


#: Publishes what expires at once, as any AMQP client may, and waits until the broker gave it up.
EXPIRES = """
import os, time, pika
from appliance import config
from appliance.broker.broker_addresses import parameters
settings = {k: v for k, v in os.environ.items() if k.startswith("APPLIANCE_")}
with pika.BlockingConnection(parameters(config.load(settings))[0]) as link:
    channel = link.channel()
    channel.confirm_delivery()
    brief = pika.BasicProperties(expiration="1")
    channel.basic_publish("appliance", "expired", b"too late", brief, mandatory=True)
    while not channel.queue_declare("appliance.dead", passive=True).method.message_count:
        time.sleep(0.1)
"""


def test_a_message_that_the_broker_gives_up_on_is_a_dead_letter_that_can_be_sent_again(
    running: Container,
):
    running.exec("supervisorctl", "stop", "worker:*")
    running.exec("python3", "-c", EXPIRES)
    running.exec("supervisorctl", "start", "worker:*")
    found = wait_until(
        lambda: running.http.get("/v1/dead-letters?topic=expired").json()["dead_letters"],
        "it is a dead letter",
    )
    assert [(letter["reason"], letter["body"]) for letter in found] == [
        ("broker-expired", "too late")
    ]
    assert "broker-expired" in running.exec("appliance", "dead", "list")
    running.exec("appliance", "dead", "redrive", "--reason", "broker-expired")
    wait_until(lambda: running.bodies("expired") == ["too late"], "it is stored")


def test_the_health_check_fails_and_says_why_while_the_broker_is_stopped(running: Container):
    running.exec("supervisorctl", "stop", "broker")
    try:
        said = wait_until(
            lambda: (
                '"ready":true' not in (text := running.exec("appliance-health", check=False))
                and text
            ),
            "the health check fails",
        )
        assert "broker" in said
        answer = running.publish("refused", "while the broker is away")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        running.exec("supervisorctl", "start", "broker")
    running.wait_ready()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_killed_process_comes_back_as_a_new_one_and_nothing_is_lost(
    running: Container, program: str
):
    topic = f"killed.{program.replace(':', '.')}"
    before = [f"before {number}" for number in range(20)]
    for body in before:
        assert running.publish(topic, body).status_code == 202
    state, pid = running.status()[program]
    assert state == "RUNNING"
    running.exec("kill", "-9", str(pid))

    def new() -> bool:
        state, now = running.status().get(program, ("", None))
        return state == "RUNNING" and now != pid

    wait_until(new, f"{program} runs as a new process")
    running.store(topic, "after")
    assert running.bodies(topic) == [*before, "after"]


def test_the_disk_of_what_was_stored_is_freed_although_the_messages_are_few_and_large(
    running: Container,
):
    """RabbitMQ by itself keeps it until thousands of messages have gone through, of any size."""
    for number in range(300):
        running.store("large", f"{number:04}" + "x" * (2**20 - 4))

    def freed() -> bool:
        running.store("large", "small")
        return int(running.exec("du", "-sm", "/data/broker/db").split()[0]) < 150

    wait_until(freed, "what is stored is no longer on the broker's disk", 15)


def test_no_secret_is_in_what_anyone_may_read(running: Container):
    secrets = {
        running.exec("cat", path).strip()
        for path in ("/data/token", "/data/broker/password", "/data/broker/.erlang.cookie")
    }
    assert len(secrets) == 3
    public = {
        "the log": running.logs,
        "the environment": json.dumps(running.inspect(".Config.Env")),
        "the image's history": docker("history", "--no-trunc", IMAGE),
        "the processes' arguments": running.exec("ps", "-eo", "args"),
        "the health check": json.dumps(running.inspect(".State.Health")),
    }
    for secret in secrets:
        assert [name for name, text in public.items() if secret in text] == []


def test_every_file_on_the_volume_is_its_owners_alone(running: Container):
    assert running.exec("find", "/data", "-perm", "/077", "!", "-type", "l") == ""


def test_only_the_api_listens_beyond_the_loopback_interface(running: Container):
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in running.exec("cat", table).splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and not re.match(r"0100007F:|0{24}01000000:", local):
                listening.append(int(local.rpartition(":")[2], 16))
    # Docker's own name server listens in a container on a network of the user's making only.
    assert listening == [8080]


def test_every_line_of_the_log_is_json_once_everything_is_started(running: Container):
    lines = [line for line in running.logs.splitlines() if line]
    begin = next(number for number, line in enumerate(lines) if line.startswith("{"))
    broken = [line for line in lines[begin:] if not line.startswith("{")]
    assert broken == []
