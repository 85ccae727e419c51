"""A data folder that can't be used: refused with words, before anything is made."""

import os
import subprocess

import pytest
from harness import APPLIANCE, environment, free_amqp_port, free_port

#: Somebody else: user and group `nobody`.
NOBODY = 65534
#: root as everyone else is: what a folder's mode forbids is forbidden.
PLAIN_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@pytest.fixture
def data(tmp_path):
    assert os.getuid() == 0, "another user's folder needs root; run these tests as root"
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    return folder


def refused(data, *prefix):
    """`run` is refused with the folder's name and a status of its own, and nothing is made."""
    env = environment(
        data,
        APPLIANCE_HTTP=f"127.0.0.1:{free_port()}",
        APPLIANCE_AMQP=f"127.0.0.1:{free_amqp_port()}",
    )
    done = subprocess.run(
        [*prefix, APPLIANCE, "run"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    assert done.stderr.startswith("appliance: APPLIANCE_DATA"), done.stderr
    assert str(data) in done.stderr
    assert "Traceback" not in done.stderr
    assert list(data.iterdir()) == []
    return done.stderr


def test_a_folder_of_another_user_is_refused_with_words_and_left_alone(data):
    os.chown(data, NOBODY, NOBODY)
    assert "can't be written to by user 0" in refused(data, *PLAIN_ROOT)


def test_a_folder_that_can_only_be_read_is_refused_with_words_and_left_alone(data):
    subprocess.run(["mount", "--bind", data, data], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", data], check=True)
        refused(data)
    finally:
        subprocess.run(["umount", data], check=True)
