"""Messages in a real browser: searched, opened, compared, saved, and never run."""

import csv
import hashlib
import json
import re

import pytest
from harness import wait_until
from sample import until

#: Each would do something if a page took it for more than text.
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "</pre></td></details></div><script>alert(3)</script>",
    "javascript:alert(4)",
    "\u202egnp.exe \u2066x",
    '{"__proto__": {"a": 1}, "<img src=x onerror=alert(5)>": "</script>"}',
    '{"\\ud800": "\\udfff"}',
    "x" * 2**20,
    b"a\0b<script>alert(6)</script>",
    b"\xff\xfe<script>alert(7)</script>",
]


def rows(page):
    return page.locator("tr[data-row]").evaluate_all("rows => rows.map(row => row.id.slice(2))")


def test_hostile_messages_are_text_on_every_page(browse, stored):
    ids = stored("markup", *HOSTILE)
    page = browse("/console/topics/markup")
    assert rows(page) == ids[::-1]
    for number, (each, body) in enumerate(zip(ids, HOSTILE, strict=True)):
        for view in ("", "?view=raw", "?view=hex", "?view=sql"):
            page.goto(f"/console/messages/{each}{view}")
            assert page.locator("h1").inner_text() == "Message"
            if view == "?view=raw" and isinstance(body, str) and len(body) < 1000:
                assert page.locator("pre.raw").text_content() == body
        page.goto(f"/console/topics/markup?open={each}")
        assert page.locator("aside.detail").is_visible(), number
    page.goto("/console/messages?q=" + "%3Cscript%3Ealert(1)")
    assert page.input_value("#q") == "<script>alert(1)"
    page.goto(f"/console/compare?a={ids[0]}&b={ids[1]}")
    assert page.locator(".diff ins").count() == 1
    assert page.evaluate("Object.prototype.a === undefined")


def test_hostile_messages_are_text_live_in_an_export_and_as_dead_letters(browse, stored, inbox):
    stored("markup-live", "first")
    page = browse("/console/topics/markup-live")
    page.wait_for_selector("[data-live-state]:text('live')")
    ids = stored("markup-live", *HOSTILE)
    page.wait_for_selector(f"#m-{ids[-1]}")
    shown = dict(zip(rows(page), page.locator("td.body").all_text_contents(), strict=True))
    for each, body in zip(ids, HOSTILE, strict=True):
        if isinstance(body, str) and len(body) < 150:
            assert shown[each] == body
    with page.expect_download() as saving:
        page.locator("summary", has_text="Export").click()
        page.get_by_role("link", name="CSV", exact=True).click()
    csv.field_size_limit(2**21)
    with saving.value.path().open(newline="") as file:
        saved = {row["id"]: row["body"] for row in csv.DictReader(file)}
    assert set(ids) < set(saved)
    assert saved[ids[0]] == HOSTILE[0]
    lines = [each.encode() if isinstance(each, str) else each for each in HOSTILE[:4]]
    query = "?split=ndjson&on-bad=dead-letter"
    url = f"/v1/topics/markup-dead/messages{query}"
    assert inbox.client.post(url, content=b"\n".join(lines)).json()["dead"]["count"] == 4
    found = "/v1/dead-letters?topic=markup-dead"
    wait_until(lambda: len(inbox.client.get(found).json()["dead_letters"]) == 4, "the letters")
    page.goto("/console/dead-letters?topic=markup-dead")
    for each in HOSTILE[:4]:
        assert page.get_by_text(each).first.is_visible()
    page.locator("tr[data-row] a").first.click()
    page.wait_for_url("**/console/dead-letters/*")
    assert page.locator("main img, main script").count() == 0


def test_a_body_that_is_a_page_is_saved_and_runs_nothing(browse, stored):
    html = "<!doctype html><script>document.title = 'run'; alert(1)</script>"
    (one,) = stored("pages", html, **{"Content-Type": "text/html"})
    page = browse(f"/console/messages/{one}")
    with page.expect_download() as saving:
        page.get_by_role("link", name="Download").click()
    saved = saving.value.path().read_bytes()
    assert hashlib.sha256(saved).digest() == hashlib.sha256(html.encode()).digest()
    with page.expect_download() as saving:
        page.evaluate("path => { location.href = path }", f"/console/messages/{one}/body")
    assert saving.value.suggested_filename == f"{one}.txt"
    assert page.title() != "run"


def test_digits_keys_and_depth_are_shown_as_they_came(browse, stored):
    text = '{"big":9223372036854775807,"huge":1e400,"price":19.90,"k":1,"k":2}'
    deep = "[" * 1000 + "]" * 1000
    one, two = stored("digits", text, deep)
    page = browse(f"/console/messages/{one}")
    shown = page.locator(".json").inner_text()
    for token in ("9223372036854775807", "1e400", "19.90"):
        assert token in shown
    assert page.locator(".json .pill").inner_text() == "again"
    page.goto(f"/console/messages/{two}")
    assert page.locator(".json").text_content().count("[") == 1000


def test_a_search_is_its_address_and_back_brings_it_again(browse, stored, chromium):
    stored("searched", *(json.dumps({"n": n, "device": f"d-{n % 3}"}) for n in range(70)))
    page = browse("/console/topics/searched")
    page.fill("#q", "device:d-1 n<60")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**q=device*")
    found = rows(page)
    assert len(found) == 20
    address = page.url
    page.locator("tr[data-row] .when a").nth(19).scroll_into_view_if_needed()
    place = page.evaluate("scrollY")
    page.locator("tr[data-row] .when a").nth(9).click()
    page.wait_for_url("**open=*")
    assert page.locator("aside.detail").is_visible()
    assert rows(page) == found
    page.go_back()
    page.wait_for_url(address)
    assert rows(page) == found
    until(page, f"scrollY === {place}")
    page.reload()
    assert rows(page) == found
    assert (
        rows(browse(address.partition("/console")[1] + address.partition("/console")[2])) == found
    )
    page.get_by_role("link", name="Without n<60").click()
    until(page, "document.querySelectorAll('[aria-label=Filter] li').length === 1")
    assert len(rows(page)) == 23


def test_two_marked_messages_are_compared(browse, stored):
    stored("compared", '{"a": 1, "b": [1, 2]}', '{"b": [1, 3], "a": 1}')
    page = browse("/console/topics/compared")
    for box in page.locator("tr[data-row] input").all():
        box.check()
    page.get_by_role("button", name="Compare two marked").click()
    page.wait_for_url("**/console/compare?**")
    assert page.locator(".diff del").all_inner_texts() == ["\u2212     3"]
    assert page.locator(".diff ins").all_inner_texts() == ["+     2"]


def test_a_value_leads_to_the_messages_that_have_it(browse, stored):
    ann = '{"who": {"name": "ann"}}'
    one, _, three = stored("values", ann, '{"who": 1}', ann)
    page = browse(f"/console/messages/{one}")
    page.get_by_role("link", name='Messages with who.name="ann"').focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**where=*")
    assert rows(page) == [three, one]


def test_all_is_done_by_keyboard_alone(browse, stored):
    ids = stored("keyed", *(f"message {n}" for n in range(5)))
    page = browse("/console/")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.wait_for_url("**/console/messages")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("message 3")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=message*")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("tr[data-row] input").first.is_checked()
    assert page.evaluate("document.activeElement.closest('tr').id") == f"m-{ids[3]}"
    page.locator("tr[data-row] .when a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**open=*")
    page.keyboard.press("Escape")
    until(page, "!location.search.includes('open=')")
    page.keyboard.press("?")
    page.wait_for_url("**/console/help")
    page.locator("input[name=keys][value=off]").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Enter")
    until(page, "document.documentElement.dataset.keys === 'off'")
    page.keyboard.press("g")
    page.keyboard.press("m")
    page.goto("/console/messages")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") != "q"


def test_times_are_shown_in_the_zone_that_was_chosen(browse, stored, inbox):
    (one,) = stored("timed", "x")
    at = inbox.client.get(f"/v1/messages/{one}").json()["received_at"]
    page = browse("/console/topics/timed", timezone_id="Asia/Tokyo")
    shown = page.locator("tr[data-row] time")
    assert shown.inner_text() == at.replace("T", " ").removesuffix("Z")
    page.locator("button[data-zone]").click()
    here = page.evaluate("at => new Date(new Date(at).getTime() + 9 * 3600e3).toISOString()", at)
    assert shown.inner_text() == here.replace("T", " ").removesuffix("Z")
    assert at.replace("T", " ").removesuffix("Z") + " UTC" in shown.get_attribute("title")
    page.goto(f"/console/messages/{one}")
    until(page, "document.documentElement.dataset.time === 'local'")
    assert page.locator("time").first.inner_text() == here.replace("T", " ").removesuffix("Z")


def test_an_export_is_saved_by_the_session(browse, stored):
    bodies = [json.dumps({"n": n, "name": f"row {n}"}) for n in range(3)]
    stored("exported", *bodies)
    page = browse("/console/topics/exported?cols=n")
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as saving:
        page.get_by_role("link", name="NDJSON").click()
    lines = saving.value.path().read_text().splitlines()
    assert [json.loads(line)["body"] for line in lines] == bodies
    with page.expect_download() as saving:
        page.get_by_role("link", name="CSV", exact=True).click()
    with saving.value.path().open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    with page.expect_download() as saving:
        page.get_by_role("link", name="CSV for Excel").click()
    assert saving.value.path().read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("path", "most_kib"), [("/console/messages", 76), ("/console/messages/{message}", 64)]
)
def test_a_page_is_light(browse, names, path, most_kib):
    """Transferred and decoded, cold; nothing comes from elsewhere. Live messages take 8 KiB."""
    page = browse()
    sizes = {}
    page.on("requestfinished", lambda request: sizes.update({request.url: request.sizes()}))
    page.goto(path.format(**names))
    page.wait_for_load_state("networkidle")
    total = sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes.values())
    assert len(sizes) <= 7
    assert total <= most_kib * 1024, {re.sub(r".*/", "", url): size for url, size in sizes.items()}
