"""The memory that our control group and the machine allow."""

from appliance.machine import memory

MIB = 2**20
GIB = 2**30


def group(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "membership", folder / "mounted"


def test_the_limit_of_a_version_2_group_is_the_least_of_it_and_those_above(tmp_path):
    paths = group(
        tmp_path,
        {
            "membership": "0::/system.slice/appliance.service\n",
            "mounted/system.slice/appliance.service/memory.max": "max\n",
            "mounted/system.slice/memory.max": "1073741824\n",
            "mounted/memory.max": "2147483648\n",
        },
    )
    assert memory.limit(*paths) == GIB


def test_the_limit_of_a_version_1_group_is_found_inside_a_container(tmp_path):
    paths = group(
        tmp_path,
        {
            "membership": "4:memory:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
            "mounted/memory/memory.limit_in_bytes": "536870912\n",
        },
    )
    assert memory.limit(*paths) == 512 * MIB


def test_no_limit_is_none_however_it_is_said(tmp_path):
    paths = group(
        tmp_path,
        {
            "membership": "4:memory:/\n0::/\n",
            "mounted/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "mounted/memory.max": "max\n",
        },
    )
    assert memory.limit(*paths) is None
    assert memory.limit(tmp_path / "missing", tmp_path / "missing") is None


def test_the_machines_memory_is_read():
    assert memory.total() > 64 * 2**20
