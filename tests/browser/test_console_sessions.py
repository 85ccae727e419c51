"""Signing in to the console in a real browser."""

import re


def enter(page, token):
    page.fill("#token", token)
    page.get_by_role("button", name="Sign in").click()


def test_a_browser_is_led_to_the_sign_in_page_and_back_to_the_page_asked_for(browse, inbox):
    browse.expect("status of 403")
    page = browse("/", signed_in=False)
    assert re.search(r"/console/login\?to=/console/$", page.url)
    page.goto("/console/?span=1h")
    enter(page, "not-a-token")
    assert "That is not a token of this appliance." in page.inner_text("[role=alert]")
    page.fill("#token", inbox.token)
    page.get_by_role("button", name="Show").click()
    assert page.get_attribute("#token", "type") == "text"
    page.press("#token", "Enter")
    page.wait_for_url("**/console/?span=1h")
    page.reload()
    assert page.locator("h1").is_visible()


def test_a_token_can_be_pasted(browse, inbox):
    page = browse(
        "/console/login", signed_in=False, permissions=["clipboard-read", "clipboard-write"]
    )
    page.evaluate("text => navigator.clipboard.writeText(text)", inbox.token)
    page.focus("#token")
    page.keyboard.press("Control+V")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/")


def test_a_sign_in_works_without_scripts(browse, inbox):
    page = browse("/console/", signed_in=False, java_script_enabled=False)
    enter(page, inbox.token)
    page.wait_for_url("**/console/")
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/login")
    page.goto("/console/")
    assert "/console/login" in page.url


def test_a_link_signs_in_and_leaves_no_code_in_the_address(browse, inbox):
    path = inbox.client.post("/v1/login-links").json()["path"]
    page = browse(path, signed_in=False)
    page.wait_for_url(re.compile(r"/console/$"))
    assert page.locator("nav.places").is_visible()
    assert "login" not in page.url
    browse.expect("status of 403")
    again = browse(path, signed_in=False)
    again.wait_for_selector("[role=alert]")
    assert "That link was used" in again.inner_text("[role=alert]")


def test_a_session_ends_with_its_token(browse, inbox):
    made = inbox.client.post("/v1/tokens", json={"name": "eyes", "rights": ["read"]}).json()
    page = browse("/console/", signed_in=False)
    enter(page, made["token"])
    page.wait_for_url("**/console/")
    assert inbox.client.delete("/v1/tokens/eyes").status_code == 204
    page.goto("/console/")
    assert "/console/login" in page.url


def test_an_address_that_tries_tokens_is_made_to_wait(browse, inbox):
    browse.expect("status of (403|429)")
    page = browse("/console/login", signed_in=False)
    for _ in range(30):
        enter(page, "guess")
        text = page.inner_text("[role=alert]")
        if "Too many wrong tokens" in text:
            break
    assert re.search(r"Wait \d+ m?s\.", text)  # the end of a try can be near


def test_a_form_of_another_site_changes_nothing(browse, inbox):
    browse.expect("status of 403")
    page = browse("/console/")
    other = page.context.new_page()
    other.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f'<form method=post action="{inbox.url}/console/logout"><input name=csrf>'
            "<button>go</button></form>",
        ),
    )
    other.goto("http://elsewhere.example/")
    with other.expect_navigation():
        other.click("button")
    assert "Not allowed" in other.inner_text("h1")
    page.reload()
    assert page.locator("nav.places").is_visible()
