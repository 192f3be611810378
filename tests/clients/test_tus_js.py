"""tus-js-client in Node and in Chromium, and @uppy/tus, against the real server, which is killed twice in the middle.

In Chromium tus-js-client is what the vault's own upload page drives. Uppy's bundle is put into a page of the vault.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM_FLAGS
from tests.clients.deaths import arrives_whole, written
from tests.faults.served import Served

UPLOAD = Path(__file__).with_name("upload.mjs")
MINUTES = 10 * 60

UPPY = """(bundle) => {
  (0, eval)(bundle);
  const chosen = document.createElement("input");
  chosen.type = "file";
  chosen.id = "chosen";
  document.body.append(chosen);
  chosen.addEventListener("change", async () => {
    const uppy = new Uppy.Uppy({ autoProceed: false });
    uppy.use(Uppy.Tus, {
      endpoint: "/api/v1/uploads",
      headers: { "X-CSRFToken": document.querySelector("input[name=csrf_token]").value },
      retryDelays: Array(600).fill(100),
      allowedMetaFields: ["filename"],
      storeFingerprintForResuming: false,
    });
    const [file] = chosen.files;
    uppy.addFile({ name: file.name, type: file.type, data: file, meta: { filename: file.name } });
    const { successful, failed } = await uppy.upload();
    document.title = `${successful.length} arrived, ${failed.length} failed`;
  });
}"""


@dataclass(frozen=True)
class Task:
    """What a client is given; it calls ``ready`` before it sends."""

    doomed: Served
    file: Path
    chromium: Path
    node_clients: Path
    ready: Callable[[], object] = lambda: None

    @property
    def endpoint(self) -> str:
        return f"{self.doomed.server.url}/api/v1/uploads"


def by_node(task: Task, streams: int = 1) -> None:
    task.ready()
    token = task.doomed.vault.alice.token
    words = ["node", UPLOAD, task.node_clients, task.endpoint, token, task.file, str(streams)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=MINUTES, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def by_node_in_parallel(task: Task) -> None:
    by_node(task, streams=3)


@contextmanager
def upload_page(task: Task) -> Iterator[Page]:
    """The vault's upload page in a browser of its own: this runs in a thread that is not the tests' own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=task.chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(base_url=task.doomed.server.url)
        token = task.doomed.vault.alice.token
        cookie = {"name": "docvault", "value": token, "url": task.doomed.server.url}
        page.context.add_cookies([cookie])  # type: ignore[list-item]
        page.goto("/upload")
        yield page
        browser.close()


def by_the_page(task: Task) -> None:
    with upload_page(task) as page:
        page.get_by_label("Documents").set_input_files(task.file)
        task.ready()
        page.get_by_role("button", name="Upload").click()
        expect(page.get_by_text("stored and locked")).to_be_visible(timeout=MINUTES * 1000)


def by_uppy(task: Task) -> None:
    with upload_page(task) as page:
        page.evaluate(UPPY, (task.node_clients / "uppy.min.js").read_text())
        task.ready()
        page.locator("#chosen").set_input_files(task.file)
        expect(page).to_have_title("1 arrived, 0 failed", timeout=MINUTES * 1000)


Client = Callable[[Task], None]
CLIENTS: tuple[Client, ...] = (by_node, by_node_in_parallel, by_the_page, by_uppy)


def test_f1_clients_in_javascript_bring_their_files_whole_through_two_deaths_of_the_server(
    doomed: Served, chromium: Path, node_clients: Path, tmp_path: Path
) -> None:
    """All of them at once."""
    file, digest = written(tmp_path, 64)
    task = Task(doomed, file, chromium, node_clients, Barrier(len(CLIENTS), timeout=60).wait)

    def upload() -> None:
        with ThreadPoolExecutor(len(CLIENTS)) as threads:
            for done in [threads.submit(by, task) for by in CLIENTS]:
                done.result()

    arrives_whole(doomed, file, digest, 4, upload, copies=len(CLIENTS))


@pytest.mark.long
@pytest.mark.parametrize("by", CLIENTS, ids=lambda by: by.__name__)
def test_f1_a_client_in_javascript_brings_a_gibibyte_whole_through_two_deaths_of_the_server(
    doomed: Served, chromium: Path, node_clients: Path, tmp_path: Path, by: Client
) -> None:
    file, digest = written(tmp_path, 1024)
    task = Task(doomed, file, chromium, node_clients)
    arrives_whole(doomed, file, digest, 42, lambda: by(task))
