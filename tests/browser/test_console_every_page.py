"""Every page of the console: accessible, readable at every size, pictured, and without a fault."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from sample import ERRORS, PAGES, until

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
#: WCAG 2.2 at the levels A and AA.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
VARIANTS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 360)]


def open_page(browse, name, names, page):
    if name in ERRORS and not browse._expected:
        browse.expect(f"status of {ERRORS[name]}")
    return page.goto(PAGES[name].format(**names))


@pytest.mark.parametrize(("scheme", "width"), VARIANTS)
def test_pages_have_no_barrier_and_are_pictured(browse, names, scheme, width):
    page = browse(color_scheme=scheme, viewport={"width": width, "height": 900})
    PICTURES.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in PAGES:
        open_page(browse, name, names, page)
        page.screenshot(path=PICTURES / f"{name}-{scheme}-{width}.png", full_page=True)
        # In the dark nothing but colours differs, and most of the time is spent on the rest.
        only = {"type": "tag", "values": RULES}
        if scheme == "dark":
            only = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
        result = Axe().run(page, options={"runOnly": only})
        for broken in result.response["violations"]:
            places = [node["html"][:150] for node in broken["nodes"][:3]]
            found[f"{name}: {broken['id']}"] = places
    assert found == {}


def test_pages_need_no_sideways_scroll_on_the_smallest_screen(browse, names):
    """320 px are a phone's, or those of a window at 400 percent."""
    page = browse(viewport={"width": 320, "height": 600})
    for name in PAGES:
        open_page(browse, name, names, page)
        for size in ("", "200%"):
            page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 320 or size, (name, width)
            until(page, "document.fonts.status === 'loaded'")
        assert page.evaluate("document.documentElement.scrollWidth") <= 640, name


def test_pages_can_be_read_with_forced_colours_less_motion_and_on_paper(browse, names):
    page = browse(forced_colors="active", reduced_motion="reduce")
    for name in PAGES:
        open_page(browse, name, names, page)
        moving = page.evaluate(
            "[...document.querySelectorAll('*')].filter((each) => {"
            "  const style = getComputedStyle(each);"
            "  return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;"
            "}).length"
        )
        assert moving == 0, name
        assert page.locator("h1").first.is_visible(), name
        assert len(page.pdf()) > 5000, name


def test_pages_send_a_policy_and_ask_nobody_else(browse, names, inbox):
    page = browse()
    hosts, answers = set(), []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108  # no method of C
    for name in PAGES:
        open_page(browse, name, names, page)
    assert hosts == {inbox.http}
    assert len(answers) >= len(PAGES)
    for answer in answers:
        if "/console" in answer.url:
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self'" in policy or policy.startswith("sandbox"), answer.url


def test_pages_work_without_scripts(browse, names):
    page = browse(java_script_enabled=False)
    for name in PAGES:
        answer = open_page(browse, name, names, page)
        assert str(answer.status) == ERRORS.get(name, "200"), name
        assert page.locator("h1").first.is_visible(), name
        for button in page.locator("[data-copy], [data-zone], [data-show]").all():
            assert not button.is_visible(), name
