"""Lists that are narrowed down, searches that are kept, and logs that are followed."""

import json
import os

from harness import wait_until
from sample import until


def rows(page):
    return page.locator("tr[data-row]").count()


def test_a_list_is_narrowed_down_by_clicks_and_kept_under_a_name(browse, stored):
    """Without scripts: all of it is links and forms."""
    topic = "narrow"
    stored(topic, *(json.dumps({"device": f"d-{n % 3}", "n": n}) for n in range(9)), "text")
    page = browse(f"/console/topics/{topic}", java_script_enabled=False)
    page.get_by_role("link", name="Column device").click()
    page.wait_for_url("**cols=device")
    assert page.locator("th", has_text="device").count() == 1
    page.get_by_role("link", name="Column n", exact=True).click()
    page.wait_for_url("**cols=device%2Cn")
    page.get_by_role("link", name="Without the column n").click()
    page.get_by_role("link", name="Narrow down").click()
    panel = page.get_by_role("region", name="Narrow down")
    assert "All 10 messages that the search finds" in panel.inner_text()
    panel.get_by_role("link", name="device", exact=True).click()
    panel.get_by_role("link", name="d-1", exact=True).click()
    page.wait_for_url("**where=device*")
    assert rows(page) == 3
    assert page.locator("td.cell").all_inner_texts() == ["d-1"] * 3
    page.locator("summary", has_text="Saved").click()
    page.fill("#name", "Device <b>one</b>")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto("/console/messages")
    page.locator("summary", has_text="Saved").click()
    page.get_by_role("link", name="Device <b>one</b>").click()
    page.wait_for_url(f"**/topics/{topic}?*")
    assert rows(page) == 3
    # Somebody else's browser has none of it.
    assert browse("/console/messages").get_by_text("None yet.").count() == 1
    page.locator("summary", has_text="Saved").click()
    page.get_by_role("button", name="Forget Device").click()
    page.locator("summary", has_text="Saved").click()
    page.get_by_text("None yet.").wait_for()
    assert rows(page) == 3


def test_a_log_is_followed_while_it_is_seen_and_can_be_paused(browse, inbox):
    page = browse("/console/system/logs?process=janitor")
    page.wait_for_selector("[data-follow-state]:text('live')")
    hostile = "<img src=x onerror=alert(1)></li>\u202e"
    log = inbox.config.run_folder / "log" / "janitor.log"

    def say(words):
        with log.open("a") as file:
            file.write(f"{words} {hostile}\n")

    say("first")
    line = page.locator(".log li", has_text="first")
    line.wait_for()
    assert hostile in line.text_content()
    assert page.locator(".log img").count() == 0
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector("[data-follow-state]:text('paused')")
    say("second")
    page.get_by_role("button", name="Resume").click()
    page.locator(".log li", has_text="second").wait_for()
    line.get_by_role("link").focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.log li:target').textContent.includes('first')")
    # What is there stays there, so that nobody who reads loses the place.
    page.evaluate("document.querySelector('.log li:target').dataset.same = 'yes'")
    say("third")
    page.locator(".log li", has_text="third").wait_for()
    assert page.locator(".log li:target").get_attribute("data-same") == "yes"


def test_a_log_goes_on_without_scripts(browse, inbox):
    page = browse("/console/system/logs?process=api", java_script_enabled=False)
    page.get_by_role("link", name="Follow").click()
    log = inbox.config.run_folder / "log" / "api.log"
    with log.open("a") as file:
        file.write(f"by hand {os.getpid()}\n")
    wait_until(lambda: page.get_by_text(f"by hand {os.getpid()}").count() == 1, "it is shown")
    page.get_by_role("link", name="Stop following").click()
    page.get_by_role("link", name="Follow").wait_for()
