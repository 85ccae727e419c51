"""The data folder moves from a container to a host and back, and with it every message."""

import shutil
import subprocess
import uuid

import pytest
from engine import IMAGE, Container, docker, wait_until
from host import PATIENCE

pytestmark = pytest.mark.timeout(600)

#: The image's RabbitMQ is Debian 13's; Debian 12's can't read what it has written.
SAME_RABBITMQ = {"bookworm": False, "trixie": True}


@pytest.fixture(scope="module")
def volume():
    name = f"appliance-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name, check=False)


@pytest.fixture(scope="module")
def container(volume):
    made = Container(volume)
    try:
        yield made.wait_ready()
    finally:
        made.remove()


def test_from_a_container_to_a_host(host, container, current, suite, tmp_path):
    container.store("moved", "from the container")
    expected = container.bodies("moved")
    if SAME_RABBITMQ[suite]:  # then what is only in the queue moves too
        container.exec("supervisorctl", "stop", "worker:*")
        assert container.publish("moved", "still in the queue").status_code == 202
        expected.append("still in the queue")
    container.stop()

    host.install(current)
    host.run("sh", "-c", "echo APPLIANCE_HTTP=0.0.0.0:8080 >> /etc/appliance/appliance.env")
    stop(host)
    host.run("sh", "-c", "rm -r /var/lib/appliance/*")
    docker("cp", f"{container.name}:/data/.", str(tmp_path))
    if not SAME_RABBITMQ[suite]:
        shutil.rmtree(tmp_path / "broker")
    docker("cp", f"{tmp_path}/.", f"{host.name}:/var/lib/appliance")
    host.run("chown", "-R", "appliance:appliance", "/var/lib/appliance")
    host.run("systemctl", "start", "appliance.target")
    host.wait_ready()
    wait_until(lambda: host.bodies("moved") == expected, "all are rows", PATIENCE)


def test_from_a_host_to_a_container(host, container, volume, suite):
    host.store("moved", "from the host")
    expected = host.bodies("moved")
    stop(host)
    mount = (f"--volume={volume}:/data", "--entrypoint")
    docker("run", "--rm", "--user=0", *mount, "find", IMAGE, "/data", "-mindepth", "1", "-delete")
    left_out = () if SAME_RABBITMQ[suite] else ("--exclude=./broker",)
    pack = ["docker", "exec", host.name, "tar", "-C", "/var/lib/appliance", "--owner=10001",
            "--group=10001", *left_out, "-c", "."]  # fmt: skip
    lay = ["docker", "run", "--rm", "-i", "--user=0", *mount, "tar", IMAGE, "-C", "/data", "-x"]
    archive = subprocess.run(pack, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(lay, input=archive, check=True)
    container.start_again().wait_ready()
    assert container.bodies("moved") == expected


def stop(host) -> None:
    host.run("systemctl", "stop", "appliance.target", "appliance-*.service")
