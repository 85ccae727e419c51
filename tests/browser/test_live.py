"""Live messages in a real browser: many, paused, hidden, and while the API is killed."""

import os
import re
import signal
import time
import uuid

import httpx
from harness import wait_until

#: Puts the moment of each change of the rows, in milliseconds, into `window.changes`.
WATCH = """
window.changes = [];
new MutationObserver(() => window.changes.push(performance.now())).observe(
  document.querySelector("[data-live-rows]"), {childList: true, subtree: true});
"""
#: Makes the tab look hidden, or shown.
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def send(inbox, topic, bodies):
    """Send a batch until it is kept; return how many messages it has."""
    key = str(uuid.uuid4())

    def kept():
        try:
            answer = inbox.client.post(
                f"/v1/topics/{topic}/messages",
                params={"split": "lines"},
                content="\n".join(bodies),
                headers={"Idempotency-Key": key},
            )
        except httpx.TransportError:
            return False
        return answer.status_code in (200, 202)

    wait_until(kept, "a batch is kept", 60)
    return len(bodies)


def numbers(first, last):
    return [f'{{"n": {n}}}' for n in range(first, last)]


def live(browse, inbox, topic, stored):
    """Open the page of a topic that has a message, and wait until it is live."""
    stored(topic, '{"n": -1}')
    page = browse(f"/console/topics/{topic}")
    page.wait_for_selector("[data-live-state]:text('live')")
    wait_until(lambda: open_streams(inbox) >= 1, "its stream is open")
    return page


def open_streams(inbox):
    return inbox.client.get("/v1/status").json()["streams"]["open"]


def seen(page):
    return int(page.get_attribute("[data-live]", "data-seen") or 0)


def wait_seen(page, count):
    page.wait_for_function(
        "count => Number(document.querySelector('[data-live]').dataset.seen) === count", arg=count
    )


def top(page):
    return page.inner_text("[data-live-rows] tr:first-child .body")


def test_a_message_appears_by_itself_and_can_be_opened(browse, inbox, stored):
    page = live(browse, inbox, "live-one", stored)
    hostile = '<img src=x onerror="alert(1)">\u202e</td>'
    (message_id,) = stored("live-one", hostile)
    wait_seen(page, 1)
    page.wait_for_selector(f"#m-{message_id}")
    assert top(page) == hostile
    page.click(f"#m-{message_id} .when a")
    page.wait_for_url(re.compile(f"open={message_id}"))
    # The page beside it is the one on which it stays, whatever comes: back leads there.
    send(inbox, "live-one", numbers(0, 60))
    wait_until(lambda: inbox.count("live-one") == 62, "60 more are rows")
    page.reload()
    page.wait_for_selector(f"tr.open#m-{message_id}")


def test_thousands_of_messages_are_painted_four_times_a_second_into_fixed_rows(
    browse, inbox, stored
):
    page = live(browse, inbox, "live-many", stored)
    sent = send(inbox, "live-many", numbers(0, 50))
    wait_seen(page, sent)
    page.wait_for_selector("[data-live-rows] tr:nth-child(40)")
    page.evaluate(WATCH)
    nodes = page.evaluate("document.querySelectorAll('*').length")
    begin = time.monotonic()
    for n in range(20):
        sent += send(inbox, "live-many", numbers(n * 200, n * 200 + 200))
    wait_seen(page, sent)
    page.wait_for_selector("[data-live-rows] tr:first-child .body:has-text('3999')")
    seconds = time.monotonic() - begin
    changes = page.evaluate("window.changes")
    assert 1 <= len(changes) <= 4 * seconds + 2
    assert page.evaluate("document.querySelectorAll('*').length") == nodes
    assert page.locator("[data-live-rows] tr").count() == 40
    shown = page.locator("[data-live-rows] .body").all_inner_texts()
    assert shown == numbers(3960, 4000)[::-1]


def test_a_pause_loses_nothing_and_leads_to_all_that_came(browse, inbox, stored):
    page = live(browse, inbox, "live-pause", stored)
    page.press("body", "p")
    page.wait_for_selector("[data-live-state]:text('paused')")
    for n in range(5):
        send(inbox, "live-pause", numbers(n * 1000, n * 1000 + 1000))
    page.wait_for_selector("[data-live-new]:text('5,000 new')")
    assert top(page) == '{"n": -1}'
    after = re.search(r"after=([^&]+)", page.get_attribute("[data-live-new]", "href"))[1]
    found, url = [], f"/v1/topics/live-pause/messages?after={after}&limit=1000"
    while url:
        answer = inbox.client.get(url).json()
        found += [each["body"] for each in answer["messages"]]
        url = answer["next_url"]
    assert found == numbers(0, 5000)
    page.click("[data-live-toggle]")
    page.wait_for_selector("[data-live-rows] tr:first-child .body:has-text('4999')")
    assert page.locator("[data-live-new]").is_hidden()
    send(inbox, "live-pause", ["after the pause"])
    wait_seen(page, 5001)
    page.wait_for_selector("[data-live-rows] tr:first-child .body:has-text('after')")


def test_a_page_pauses_where_somebody_reads(browse, inbox, stored):
    page = live(browse, inbox, "live-read", stored)
    page.focus("[data-live-rows] .when a")
    page.wait_for_selector("[data-live-state]:text('paused')")
    send(inbox, "live-read", ["new"])
    page.click("[data-live-new]")
    page.wait_for_url(re.compile("after="))
    assert top(page) == "new"


def test_a_killed_api_is_said_and_leaves_no_gap(browse, inbox, stored):
    browse.expect("Failed to load resource|ERR_")
    page = live(browse, inbox, "live-kill", stored)
    sent = send(inbox, "live-kill", numbers(0, 10))
    wait_seen(page, sent)
    pulses = inbox.client.get("/v1/status").json()["pulses"]
    os.kill(next(each["pid"] for each in pulses if each["process"] == "api"), signal.SIGKILL)
    page.wait_for_selector("[data-live-state]:text('no answer since')")
    sent += send(inbox, "live-kill", numbers(10, 30))
    wait_seen(page, sent)
    page.wait_for_selector("[data-live-rows] tr:first-child .body:has-text('29')")
    assert page.locator("[data-live-rows] .body").all_inner_texts()[:30] == numbers(0, 30)[::-1]
    page.wait_for_selector("[data-live-state]:text('live')")


def test_a_hidden_tab_has_no_stream_and_misses_nothing(browse, inbox, stored):
    page = live(browse, inbox, "live-hidden", stored)
    before = open_streams(inbox)
    page.evaluate(HIDE, True)
    wait_until(lambda: open_streams(inbox) == before - 1, "its stream is closed")
    send(inbox, "live-hidden", numbers(0, 3))
    page.evaluate(HIDE, False)
    wait_seen(page, 3)


def test_eight_tabs_all_load_and_the_last_one_goes_on(browse, inbox, stored):
    """A browser has six connections to one address; each tab in front hides the others."""
    stored("live-tabs", "first")
    tabs = [browse("/console/topics/live-tabs")]
    for _ in range(7):
        tabs[-1].evaluate(HIDE, True)
        tabs.append(tabs[0].context.new_page())
        tabs[-1].goto("/console/topics/live-tabs")
    tabs[-1].wait_for_selector("[data-live-state]:text('live')")
    send(inbox, "live-tabs", ["last"])
    wait_seen(tabs[-1], 1)
