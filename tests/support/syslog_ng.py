"""syslog-ng in a folder of its own: reads a file, and sends as the configuration says."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from harness import wait_until


class SyslogNg:
    """Runs while the block does; `log` writes lines that it reads.

    `configuration` has destinations and paths of the log; its source is `s_src`.
    """

    def __init__(self, folder: Path, configuration: str) -> None:
        self._folder = folder
        self._lines = folder / "lines"
        self._lines.touch()
        self._config = folder / "syslog-ng.conf"
        self._config.write_text(
            "@version: 3.38\n"
            f'source s_src {{ file("{self._lines}" follow-freq(1) flags(syslog-protocol)); }};\n'
            + configuration
        )
        self._output = folder / "syslog-ng.log"

    def __enter__(self) -> Self:
        files = ("persist-file", "pidfile", "control")
        with self._output.open("wb") as output:
            self._daemon = subprocess.Popen(
                ["/usr/sbin/syslog-ng", "--foreground", "--stderr", "--no-caps"]
                + [f"--cfgfile={self._config}"]
                + [f"--{name}={self._folder / name}" for name in files],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until((self._folder / "control").exists, "syslog-ng runs", 20, self.output)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._daemon.terminate()
        self._daemon.wait(20)

    def output(self) -> str:
        """Return what it said."""
        return self._output.read_text(errors="replace")

    def log(self, *texts: str) -> None:
        """Write lines into the file that it reads."""
        with self._lines.open("a") as file:
            file.writelines(f"<13>1 2026-11-27T20:00:00Z till app - - - {text}\n" for text in texts)
