"""A real browser, and one appliance for all of these tests.

Each test fails on any error that the browser reports: of a script, of a resource, of the policy
about scripts. A test that provokes one names it with `browse.expect`.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures import pytest_runtest_makereport
from harness import wait_until
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sample import fill
from supervised import Appliance

__all__ = ["pytest_runtest_makereport"]

#: Milliseconds for anything that a page does; a test waits for a state, never for a time.
PATIENCE_MS = 20_000
#: Reports what the browser refuses to do because of the policy.
REPORTS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@pytest.fixture(scope="session")
def inbox(tmp_path_factory) -> Iterator[Appliance]:
    """The appliance; tests share it, so each uses topics of its own."""
    one = Appliance(tmp_path_factory.mktemp("browser"))
    one.start().wait_ready()
    one.client.headers["Authorization"] = f"Bearer {one.token}"
    yield one
    one.end()
    one.clear()


@pytest.fixture(scope="session")
def names(inbox) -> dict[str, str]:
    """Messages of every kind: ids and names by which the addresses of pages are filled in."""
    return fill(inbox)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(chromium, inbox) -> Any:
    """The cookies of a browser that has signed in."""
    context = chromium.new_context(base_url=inbox.url)
    page = context.new_page()
    page.goto("/console/login")
    page.fill("#token", inbox.token)
    page.click("text=Sign in >> nth=-1")
    page.wait_for_url("**/console/")
    state = context.storage_state()
    context.close()
    return state


class Browse:
    """Opens browser windows, each as another person would, and notes what goes wrong in them."""

    def __init__(self, browser: Browser, url: str, state: Any) -> None:
        self._browser, self._url, self._state = browser, url, state
        self.contexts: list[BrowserContext] = []
        self.errors: list[str] = []
        self._expected: list[str] = []

    def __call__(self, path: str | None = None, *, signed_in: bool = True, **options: Any) -> Page:
        """Open a window at a path; `options` are those of a Playwright context."""
        context = self._browser.new_context(
            base_url=self._url,
            storage_state=self._state if signed_in else None,
            **{"viewport": {"width": 1280, "height": 900}, **options},
        )
        context.set_default_timeout(PATIENCE_MS)
        if options.get("java_script_enabled", True):
            context.add_init_script(REPORTS)
        self.contexts.append(context)
        context.on("page", self._watch)
        page = context.new_page()
        if path is not None:
            page.goto(path)
        return page

    def expect(self, pattern: str) -> None:
        """Let errors be that this pattern is found in; at least one must come."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Fail where there was an error that nobody expected, or none where one was expected."""
        left = [
            error
            for error in self.errors
            if not any(re.search(pattern, error) for pattern in self._expected)
        ]
        assert left == []
        for pattern in self._expected:
            assert any(re.search(pattern, error) for error in self.errors), pattern

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(f"{page.url}: {error}"))
        page.on("console", self._note)
        page.on("dialog", self._dialog)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning", "assert"):
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _dialog(self, dialog: Any) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def browse(chromium, inbox, signed_in) -> Iterator[Browse]:
    made = Browse(chromium, inbox.url, signed_in)
    yield made
    for context in made.contexts:
        context.close()
    made.check()


@pytest.fixture
def stored(inbox):
    """Send messages to a topic, and wait until each is a row; return their ids."""

    def send(topic: str, *bodies: str | bytes, **headers: str) -> list[str]:
        ids = []
        for body in bodies:
            answer = inbox.client.post(
                f"/v1/topics/{topic}/messages", content=body, headers=headers
            )
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["id"])
        for each in ids:
            wait_until(
                lambda each=each: inbox.client.get(f"/v1/messages/{each}").status_code == 200,
                f"{each} is stored",
            )
        return ids

    return send
