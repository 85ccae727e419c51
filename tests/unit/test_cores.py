"""How many cores there are for the appliance."""

import os

import pytest

from appliance.machine import cores

OWN = len(os.sched_getaffinity(0))


@pytest.fixture
def groups(tmp_path):
    def make(line, **files):
        membership = tmp_path / "cgroup"
        membership.write_text(f"{line}\n")
        for name, text in files.items():
            path = tmp_path / "fs" / name.replace("__", "/").replace("cpu_max", "cpu.max")
            path = path.with_name(path.name.replace("cfs_", "cpu.cfs_"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return cores.usable(membership, tmp_path / "fs")

    return make


def test_cores_are_those_that_the_process_may_run_on(groups):
    assert groups("0::/", cpu_max="max 100000") == OWN
    assert cores.usable() >= 1


def test_a_version_2_group_gives_fewer_by_its_time_or_by_that_of_one_above(groups):
    assert groups("0::/a/b", a__cpu_max="50000 100000", a__b__cpu_max="max 100000") == 1


def test_a_version_1_group_gives_fewer_too(groups):
    found = groups("4:cpu,cpuacct:/", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    assert found == 1


def test_no_limit_is_none_however_it_is_said(groups):
    line = "4:cpu,cpuacct:/"
    assert groups(line, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000") == OWN
    assert groups("nonsense:x:/y") == OWN
