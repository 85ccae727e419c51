"""What the image is: its labels, its size, and what is not in it."""

import json

import pytest
from engine import IMAGE, docker, run_to_its_end

#: Ours is 166 MB, the 15 MB of jsonschema-rs and the 13 MB of psycopg with its libraries; more than
#: this means that something slipped in.
LARGEST_MEGABYTES = 208


@pytest.fixture(scope="module")
def image():
    return json.loads(docker("image", "inspect", IMAGE))[0]


def shell(script: str) -> str:
    status, output = run_to_its_end("--entrypoint", "sh", "--user", "0", IMAGE, "-c", script)
    assert status == 0, output
    return output


def test_the_image_says_what_it_is(image):
    labels = image["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[prefix + "title"] == "Queue Appliance"
    assert labels[prefix + "licenses"] == "MIT"
    for name in ("description", "version", "revision", "created", "base.name"):
        assert labels[prefix + name] not in ("", "0", "unknown")


def test_the_image_names_its_base_by_the_digest_that_a_registry_gave_it(image):
    labels = image["Config"]["Labels"]
    name = labels["org.opencontainers.image.base.name"]
    digests = json.loads(docker("image", "inspect", name))[0]["RepoDigests"]
    found = labels["org.opencontainers.image.base.digest"]
    assert found == (digests[0].partition("@")[2] if digests else "")


def test_the_image_lists_what_it_is_made_of():
    """Each library and each Debian package, as they are installed, and nothing else."""
    listed = json.loads(shell("cat /usr/share/doc/queue-appliance/sbom.cdx.json"))["components"]
    packages = shell("dpkg-query --show --showformat '${Package} ${Version}\\n'").split("\n")
    libraries = shell(
        "python -c 'import importlib.metadata as m; "
        "[print(d.name, d.version) for d in m.distributions()]'"
    ).split("\n")
    found = {
        kind: {
            f"{each['name']} {each['version']}"
            for each in listed
            if each["purl"].startswith(f"pkg:{kind}/")
        }
        for kind in ("deb", "pypi", "generic")
    }
    assert found["deb"] == {line for line in packages if line}
    ours = {line for line in libraries if line.startswith("queue-appliance ")}
    normal = {line.lower().replace("_", "-") for line in libraries if line} - ours
    assert found["pypi"] == normal
    sqlite = shell("python -c 'import pysqlite3; print(pysqlite3.sqlite_version)'").strip()
    assert found["generic"] == {f"sqlite {sqlite}"}


def test_the_image_tells_the_engine_how_to_run_it(image):
    config = image["Config"]
    assert config["User"] == "appliance"
    assert config["Volumes"] == {"/data": {}}
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "appliance-health"]
    assert [*config["Entrypoint"], *config["Cmd"]] == ["appliance", "run"]


def test_the_image_is_small(image):
    megabytes = image["Size"] / 1e6
    print(f"image size: {megabytes:.0f} MB")
    assert megabytes <= LARGEST_MEGABYTES


def test_no_secret_comes_with_the_image():
    assert shell("find / -xdev -name '.erlang.cookie' -o -xdev -name '*.key'") == ""
    assert shell("ls -A /data /var/lib/rabbitmq") == "/data:\n\n/var/lib/rabbitmq:\n"


def test_no_program_of_the_image_acts_as_another_user():
    assert shell("find / -xdev -type f -perm /6000") == ""


def test_the_image_has_no_compiler_and_no_package_installer_of_python():
    assert shell("for n in pip pip3 gcc cc strip; do command -v $n || :; done") == ""


def test_the_data_folder_belongs_to_the_user_the_processes_run_as():
    assert shell("stat -c '%U %u %a' /data").split() == ["appliance", "10001", "700"]
    assert shell("stat -c '%a' /run /tmp").split() == ["1777", "1777"]


def test_any_command_of_the_appliance_can_be_run_in_a_container():
    status, output = run_to_its_end(IMAGE, "--version")
    assert (status, output.split(",")[0]) == (0, "appliance")
    status, output = run_to_its_end(IMAGE, "config", "--json")
    assert status == 0
    assert json.loads(output)["APPLIANCE_DATA"] == {
        "value": "/data",
        "text": "/data",
        "source": "environment",
    }
