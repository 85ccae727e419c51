"""A real browser (Chromium without a window), and a website of ours that it opens."""

import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from harness import wait_until

#: Seconds. A start takes 2 on a machine with nothing else to do.
PATIENCE = 60


class Website:
    """A website on a free port: serves `pages` (path -> HTML), and notes what it is asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        #: (method, path, body) of every request, oldest first.
        self.asked: list[tuple[str, str, bytes]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                site.asked.append((self.command, self.path, body))
                page = site.pages.get(urlsplit(self.path).path)
                content = (page or "").encode()
                self.send_response(200 if page is not None else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815  # the server's name for it

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bodies(self, path: str) -> list[bytes]:
        """Return the bodies of what came to a path."""
        return [body for _, at, body in self.asked if urlsplit(at).path == path]

    def visit(self, path: str, until: str | Callable[[], object], folder: Path) -> None:
        """Open a page in a browser, and close it once it has asked for the path `until`.

        Or once `until()` is true.
        """
        is_over = (lambda: self.bodies(until)) if isinstance(until, str) else until
        log = folder / "chromium.log"
        command = [
            "chromium-headless-shell",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",  # keeps it open
            f"--user-data-dir={folder / 'profile'}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            self.origin + path,
        ]
        with log.open("wb") as output:
            browser = subprocess.Popen(
                command,
                env={**os.environ, "HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(
                is_over,
                f"the browser asks for {until}" if isinstance(until, str) else "it has done it",
                PATIENCE,
                lambda: f"{self.asked}\n{log.read_text(errors='replace')[-3000:]}",
            )
        finally:
            # Debian's command is a shell script, which would leave the browser behind.
            os.killpg(browser.pid, signal.SIGTERM)
            browser.wait(30)
            wait_until(lambda: not _lives(browser.pid), "the browser has ended", PATIENCE)


def _lives(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
