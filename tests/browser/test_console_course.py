"""The overview in a browser: the first message, the charts; and the state, which every page has."""

import re
import subprocess

import pytest
from axe_playwright_python.sync_playwright import Axe
from harness import wait_until

from appliance.alerts import alert_book
from appliance.alerts.alert_book import AlertBook
from appliance.alerts.alert_conditions import AlertCondition

#: Milliseconds for a worker to end, or to start, and for the page to learn of it.
PATIENCE_MS = 60_000
#: WCAG 2.2 at the levels A and AA.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture
def newcomer(inbox):
    """The token of somebody whose topic never had a message."""
    wish = {"name": "newcomer", "rights": ["publish", "read"], "topics": ["first-run"]}
    yield inbox.client.post("/v1/tokens", json=wish).json()["token"]
    inbox.client.delete("/v1/tokens/newcomer")


def test_the_first_message_lights_up_on_the_page_that_says_how_to_send_it(browse, inbox, newcomer):
    page = browse("/console/login", signed_in=False)
    page.fill("#token", newcomer)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Nothing has come yet").wait_for()
    assert page.locator("[data-first]").is_hidden()
    line = page.inner_text("#first-curl")
    subprocess.run(
        line, shell=True, check=True, capture_output=True, timeout=60, env={"TOKEN": newcomer}
    )
    got = page.get_by_role("link", name=re.compile("Got it: 5 bytes.*See it"))
    got.wait_for()
    got.click()
    page.get_by_text("hello").first.wait_for()
    assert "/console/messages/" in page.url


def test_the_charts_are_drawn_by_the_server_and_are_a_table_too(browse, inbox, stored):
    def drawn():
        stored("course", "x")
        page.goto("/console/?span=15m")
        return page.locator(".charts path.accepted[d*=V]").count()

    page = browse("/console/", java_script_enabled=False)
    wait_until(drawn, "a second is drawn", 60)
    for name in ("Accepted and stored", "Waiting", "Lag", "Free on the disk"):
        chart = page.get_by_role("img", name=re.compile(name))
        assert "at most" in chart.locator("desc").text_content(), name
    page.get_by_text("as a table").click()
    table = page.get_by_role("table", name=re.compile("The course of the last"))
    assert table.get_by_role("columnheader", name="Accepted").is_visible()
    for span in ("1 h", "24 h", "14 d"):
        page.get_by_role("link", name=span, exact=True).click()
        assert page.get_by_role("link", name=span, exact=True).get_attribute("aria-current")
        assert page.locator(".charts svg").count() == 4


def test_the_state_goes_live_and_leads_to_the_system(browse, inbox):
    page = browse("/console/help")
    pill = page.locator("[data-state]")
    pill.get_by_text("ready", exact=True).wait_for()
    plain = browse("/console/help", java_script_enabled=False)
    inbox.ctl("stop", "worker:*")
    try:
        state = "[data-state].bad:has-text('no worker is attached')"
        page.wait_for_selector(state, timeout=PATIENCE_MS)
        assert plain.locator("[data-state]").inner_text().split() == ["✓", "ready"]
        plain.reload()
        assert "no worker is attached" in plain.locator("[data-state]").inner_text()
    finally:
        inbox.ctl("start", "worker:*")
    page.wait_for_selector("[data-state].ok:has-text('ready')", timeout=PATIENCE_MS)
    pill.click()
    page.wait_for_url("**/console/system")


def test_the_state_says_that_somebody_is_signed_out(browse):
    page = browse("/console/help")
    page.locator("[data-state].ok").wait_for()
    page.context.clear_cookies()
    page.wait_for_selector("[data-state]:has-text('signed out')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_alerts_that_are_raised_and_over_can_be_read_by_everyone(browse, inbox, scheme):
    book = AlertBook(inbox.config)
    disk, lag = AlertCondition("disk", "data", "9 bytes"), AlertCondition("lag", "queue", "6 min")
    book.update([disk, lag], 1.0)
    book.update([disk], 2.0)
    book.keep()
    try:
        page = browse(
            "/console/alerts", color_scheme=scheme, viewport={"width": 360, "height": 900}
        )
        page.get_by_role("heading", name="A disk fills up: data").wait_for()
        page.get_by_role("cell", name="lag queue").first.wait_for()
        assert Axe().run(page, options={"runOnly": RULES}).response["violations"] == []
        page.goto("/console/")
        page.get_by_role("link", name="disk data").click()
        page.wait_for_url("**/console/alerts")
    finally:
        alert_book.path(inbox.config).unlink(missing_ok=True)
