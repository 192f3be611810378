"""Hostile content and hostile sites, met by a real browser (X1, X2, X13)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import Meet
from tests.browser.gallery import CANARY
from tests.browser.hostile import FILES, ForeignSite, foreign_site
from tests.browser.site import Site
from tests.browser.visitor import named_bytes


def test_x1_a_hostile_file_is_saved_and_never_shown(site: Site, meet: Meet) -> None:
    bob = meet("bob")
    requests: list[str] = []
    bob.context.on("request", lambda request: requests.append(request.url))
    documents = {name: site.upload("alice", name, content, share=("bob",)) for name, content in FILES.items()}
    bob.page.goto("/shared", wait_until="networkidle")
    for name, document in documents.items():
        requests.clear()
        address = f"{site.url}/documents/{document}/content"
        with bob.page.expect_download() as waiting, pytest.raises(Error, match="Download is starting"):
            bob.page.goto(address)
        assert named_bytes(waiting.value)[1] == FILES[name]
        assert requests == [address], f"{name}: nothing else was asked for"
        bob.expect_heading("Shared with me")
        assert bob.page.evaluate(CANARY) is None


EMBEDDED = """(address) => Promise.all(["iframe", "embed", "object", "img", "script", "link", "audio"].map((name) =>
  new Promise((resolve) => {
    const part = document.createElement(name);
    part.onload = () => resolve(`${name} loaded`);
    part.onerror = () => resolve(`${name} refused`);
    if (name === "link") part.rel = "stylesheet";
    part[{object: "data", link: "href"}[name] || "src"] = address;
    document.body.append(part);
    if (["iframe", "embed", "object"].includes(name)) resolve(`${name} asked`);
  })))"""


def test_x1_a_page_of_the_vault_does_not_embed_a_document(site: Site, meet: Meet) -> None:
    """Even where markup got into a page, a document there is neither picture nor script nor frame."""
    document = site.upload("alice", "polyglot.gif", FILES["polyglot.gif"])
    alice = meet("alice", attacked=True)
    alice.page.goto("/account")
    address = f"{site.url}/documents/{document}/content"
    for answer in alice.page.evaluate(EMBEDDED, address):
        assert not answer.endswith("loaded"), answer
    assert alice.page.evaluate(CANARY) is None
    assert len(alice.page.frames) <= 2
    refused = " ".join(alice.wrong)
    for directive in ("frame-src", "object-src"):
        assert f"policy violation: {directive}" in refused


INJECT = """([elsewhere, expected]) => {
  const reported = new Set();
  const note = ({ effectiveDirective, blockedURI }) => reported.add(`${effectiveDirective} ${blockedURI}`);
  addEventListener("securitypolicyviolation", note);
  const script = document.createElement("script");
  script.textContent = "globalThis.ranInTheVault = 'inline'";
  document.body.append(script);
  const box = document.createElement("div");
  box.innerHTML = `<img src="/nothing" onerror="globalThis.ranInTheVault = 1"><p style="color: red" id="painted">x</p>
    <style>#painted { color: red }</style><a id="link" href="javascript:globalThis.ranInTheVault = 2">x</a>
    <form id="out" action="${elsewhere}/form" method="post"><input name="x"></form><base href="${elsewhere}/">`;
  document.body.append(box);
  document.getElementById("link").click();
  document.getElementById("out").submit();
  for (const address of [`${elsewhere}/script.js`, "data:text/javascript,globalThis.ranInTheVault=3"]) {
    const foreign = document.createElement("script");
    foreign.src = address;
    document.body.append(foreign);
  }
  new Image().src = `${elsewhere}/picture.png`;
  fetch(`${elsewhere}/fetch`).then(() => { globalThis.ranInTheVault = "fetched"; }, () => {});
  navigator.sendBeacon(`${elsewhere}/beacon`);
  // Later: what the test itself evaluates is free of the policy.
  setTimeout(() => { try { (0, eval)("globalThis.ranInTheVault = 4"); } catch { /* as it should */ } });
  const until = Date.now() + 10000;
  return new Promise((resolve) => {
    const look = () => {
      const missing = expected.filter((one) => ![...reported].some((report) => report.startsWith(one)));
      if (missing.length && Date.now() < until) return setTimeout(look, 10);
      resolve([missing, getComputedStyle(document.getElementById("painted")).color]);
    };
    look();
  });
}"""


def test_x2_the_policy_really_blocks(site: Site, meet: Meet, elsewhere: ForeignSite) -> None:
    """Markup that is put into a page by force runs nothing, paints nothing and sends nothing."""
    blocked = [
        "script-src-elem inline", "script-src-attr inline", "script-src eval", "script-src-elem data",
        "style-src-attr inline", "style-src-elem inline",
        f"script-src-elem {elsewhere.url}", f"img-src {elsewhere.url}", f"connect-src {elsewhere.url}",
        f"form-action {elsewhere.url}", f"base-uri {elsewhere.url}",
    ]  # fmt: skip
    alice = meet("alice", attacked=True)
    for path in ("/", "/account", "/nowhere", "/invitation"):
        alice.page.goto(path)
        missing, colour = alice.page.evaluate(INJECT, [elsewhere.url, blocked])
        assert missing == [], f"{path}: what the policy did not stop"
        assert colour != "rgb(255, 0, 0)"
        assert alice.page.evaluate(CANARY) is None
        assert alice.path() == path
    assert elsewhere.asked == []


@pytest.fixture
def elsewhere(site: Site) -> Iterator[ForeignSite]:
    """The attacker's site: a frame, an opened window, and forms that are sent by themselves."""
    form = "<form method=post action={}><input name=x></form><script>document.forms[0].submit()</script>"
    pages = {
        "/frame": f"<title>frame</title><iframe src='{site.url}/login'></iframe>",
        "/open": f"<title>open</title><a href='{site.url}/' target=vault rel=opener>go</a>",
        "/lock": form.format(f"{site.url}/logout"),
        "/end": form.format(f"{site.url}/account/sessions/end-all"),
        "/parts": "<title>parts</title>",
    }
    with foreign_site(pages) as found:
        yield found


def test_x13_no_other_site_frames_the_vault(site: Site, meet: Meet, elsewhere: ForeignSite) -> None:
    alice = meet("alice", attacked=True)
    alice.page.goto(f"{elsewhere.url}/frame")
    frame = alice.page.frames[1]
    expect(frame.get_by_role("heading", name="Log in")).to_have_count(0)
    assert site.url not in frame.url
    assert any("frame-ancestors" in text for text in alice.wrong)


def test_x13_no_other_site_sends_a_form(site: Site, meet: Meet, elsewhere: ForeignSite) -> None:
    """Another port is the same site, so the cookie comes along: Origin and the missing token stop the form."""
    alice = meet("alice", attacked=True)
    for page in ("lock", "end"):
        alice.page.goto(f"{elsewhere.url}/{page}")
        alice.page.wait_for_url(f"{site.url}/**")
        alice.expect_heading("This is not yours to do")
    alice.page.goto("/account")
    alice.expect_heading("alice")


def test_x13_no_other_site_reads_or_holds_a_page(site: Site, meet: Meet, elsewhere: ForeignSite) -> None:
    document = site.upload("alice", "picture.svg", FILES["picture.svg"])
    alice = meet("alice", attacked=True)
    alice.page.goto(f"{elsewhere.url}/parts")
    loaded = alice.page.evaluate(
        """(addresses) => Promise.all(addresses.map((address) => new Promise((resolve) => {
          const picture = new Image();
          picture.onload = () => resolve("loaded");
          picture.onerror = () => resolve("refused");
          picture.src = address;
        })))""",
        [f"{site.url}/documents/{document}/content", f"{site.url}/static/img/favicon.svg"],
    )
    assert loaded == ["refused", "refused"], "Cross-Origin-Resource-Policy"
    for path in ("/", "/session", "/users/suggest?q=bo", "/api/v1/documents"):
        read = "(address) => fetch(address, {credentials: 'include'}).then(() => 'read', () => 'refused')"
        assert alice.page.evaluate(read, f"{site.url}{path}") == "refused"

    alice.page.goto(f"{elsewhere.url}/open")
    with alice.context.expect_page() as waiting:
        alice.page.get_by_role("link", name="go").click()
    opened = waiting.value
    expect(opened.get_by_role("heading", level=1)).to_have_text("My documents")
    assert opened.evaluate("window.opener") is None, "Cross-Origin-Opener-Policy"
    assert opened.evaluate("document.referrer") in ("", f"{elsewhere.url}/")


def test_x13_no_address_of_a_document_leaves_in_a_referrer(
    site: Site, meet: Meet, elsewhere: ForeignSite
) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice", attacked=True)
    alice.page.goto(f"/documents/{document}")
    alice.page.evaluate("(address) => { location.href = address; }", f"{elsewhere.url}/parts")
    expect(alice.page).to_have_title("parts")
    assert alice.page.evaluate("document.referrer") == ""
