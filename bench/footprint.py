"""What the container takes: start, memory, image. `python -m bench.footprint [IMAGE]`.

Needs a Docker engine and the image (`make image`). Memory is the container's cgroup as `docker
stats` shows it: all but the pages of files that were used once only. So it has the pages of the
database that were used twice, which the kernel gives up as well where memory is needed. Below each
figure is what it consists of: the processes' own memory, the kernel's, and these pages.
"""

import contextlib
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request

from bench.harness import BenchError, free_port
from bench.load import Load
from bench.meter import Generator

#: Starts on a volume used before; the median is shown.
_STARTS = 3
#: Seconds after which an idle container is idle.
_SETTLE = 30.0
_MESSAGES = 1_000_000
#: Prints the parts of the container's memory, as either version of control groups has them.
_SHOW_PARTS = """cd /sys/fs/cgroup
if [ -e memory.stat ]; then cat memory.stat
else cat memory/memory.stat; echo kernel $(cat memory/memory.kmem.usage_in_bytes); fi"""
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


class _Container:
    """One container at a time, on one volume."""

    def __init__(self, image: str) -> None:
        self._image = image
        self.name = f"appliance-footprint-{secrets.token_hex(3)}"
        self.port = free_port()
        self.token = secrets.token_urlsafe(16)

    def start(self) -> float:
        """Start it; return the seconds from `docker run` to the first 202."""
        began = time.monotonic()
        _docker(
            "run", "--detach", "--name", self.name, "--ulimit", "nofile=20000:20000",
            "--publish", f"127.0.0.1:{self.port}:8080", "--volume", f"{self.name}:/data",
            "--env", f"APPLIANCE_TOKEN={self.token}", self._image,
        )  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/topics/first/messages",
            data=b"hello",
            headers=self.headers,
        )
        while time.monotonic() - began < 120:
            try:
                with urllib.request.urlopen(request, timeout=10):
                    return time.monotonic() - began
            except OSError:  # nobody listens, or a 503
                pass
            time.sleep(0.02)
        raise BenchError(f"no 202 within two minutes:\n{_docker('logs', self.name)[-2000:]}")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def memory(self) -> float:
        """Return the MiB of its cgroup."""
        shown = _docker("stats", "--no-stream", "--format", "{{.MemUsage}}", self.name).split()[0]
        return float(shown[:-3]) * _UNITS[shown[-3:]] / 2**20

    def parts(self) -> str:
        """Return in words what its memory consists of, in MiB."""
        shown = _docker("exec", self.name, "sh", "-c", _SHOW_PARTS)
        sizes = {name: int(size) / 2**20 for name, size in map(str.split, shown.splitlines())}

        def first(*names: str) -> float:
            return next((sizes[name] for name in names if name in sizes), 0.0)

        own = first("anon", "total_rss") + first("shmem", "total_shmem")
        files = first("total_active_file", "active_file")
        return f"processes {own:.0f}, kernel {first('kernel'):.0f}, files {files:.0f}"

    def stop(self) -> None:
        _docker("stop", "--time", "30", self.name)
        _docker("rm", self.name)

    def remove(self) -> None:
        for arguments in (("rm", "--force", self.name), ("volume", "rm", "--force", self.name)):
            with contextlib.suppress(BenchError):
                _docker(*arguments)


def main() -> None:
    """Measure and print, a line each."""
    image = sys.argv[1] if len(sys.argv) > 1 else "queue-appliance"
    container = _Container(image)
    try:
        size = int(_docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6
        print(f"image                               {size:6.0f} MB     wanted <= 190")
        print(f"docker run to 202, a new volume     {container.start():6.1f} s")
        starts = []
        for _ in range(_STARTS):
            container.stop()
            starts.append(container.start())
        print(f"docker run to 202, a used volume    {statistics.median(starts):6.1f} s      <= 3")
        time.sleep(_SETTLE)
        print(f"memory, idle                        {container.memory():6.0f} MiB    <= 150 MB")
        print(f"  MiB: {container.parts()}")
        path = "/v1/topics/footprint/messages"
        load = Load(container.port, [path], container.headers, count=_MESSAGES, seconds=600)
        outcome = Generator(load).outcome
        time.sleep(2)
        print(
            f"memory, after {outcome.ok:9,} messages   {container.memory():6.0f} MiB    <= 240 MB"
        )
        print(f"  MiB: {container.parts()}")
    finally:
        container.remove()


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
