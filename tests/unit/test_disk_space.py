"""Room on the disks: what is below a floor, and which disks are looked at."""

from dataclasses import replace

import pytest

from appliance import config as configuration
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.disk_space import Disk

PLENTY = Disk(
    "the data's disk",
    free=100,
    total=1000,
    floor=100,
    free_inodes=1000,
    inodes=9000,
    inode_floor=1000,
)


def test_a_disk_at_its_floor_lacks_nothing():
    assert PLENTY.lacks == ""


def test_a_disk_below_its_floor_says_so():
    said = replace(PLENTY, free=99).lacks
    assert said == "99 bytes are free on the data's disk, 100 must stay free"


def test_a_disk_that_takes_few_more_files_says_so():
    said = replace(PLENTY, free_inodes=999).lacks
    assert said == "999 more files can be made on the data's disk, 1000 must stay possible"


def test_a_file_system_that_counts_no_inodes_lacks_none():
    assert replace(PLENTY, free_inodes=0, inodes=0).lacks == ""


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


def test_a_broker_on_the_same_disk_is_not_counted_twice(config):
    assert len(disk_space.disks(config)) == 1
    (config.data / "broker").mkdir()
    assert len(disk_space.disks(config)) == 1


def test_a_broker_on_another_disk_is_looked_at_too(config):
    (config.data / "broker").symlink_to("/proc")
    assert [disk.name for disk in disk_space.disks(config)] == [
        "the data's disk",
        "the broker's disk",
    ]
    assert "the broker's disk" in disk_space.lacking(replace(config, min_free_bytes=1))


def test_a_broker_of_somebody_else_has_its_own_disk(config):
    (config.data / "broker").symlink_to("/proc")
    assert len(disk_space.disks(replace(config, broker_url="amqp://host"))) == 1


def test_a_folder_that_is_gone_is_an_error(config):
    with pytest.raises(StoreError):
        disk_space.disks(replace(config, data=config.data / "gone"))
