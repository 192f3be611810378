"""The instruments: right over many processes, whatever becomes of them, and too cheap to be noticed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vault.metrics import BOUNDS, LOGINS, OPEN_SECONDS, SLOTS, Gauges, exposition

# A run in several processes has threads of its own, which Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_processes(count: int, act: Callable[[int], None], end: Callable[[int], None] | None = None) -> None:
    """Fork some processes that do something, and end as they like or are made to."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            act(number)
            os._exit(0)
        children.append(child)
    for child in children:
        if end is not None:
            end(child)
        os.waitpid(child, 0)


def test_sums_over_processes_that_count_at_once() -> None:
    before, seconds = LOGINS.value("ok"), OPEN_SECONDS.count()

    def count(number: int) -> None:
        for _ in range(2000):
            LOGINS.add("ok")
            OPEN_SECONDS.observe(0.01)

    in_processes(6, count)
    assert LOGINS.value("ok") - before == 12_000
    assert OPEN_SECONDS.count() - seconds == 12_000


def test_threads_of_one_process_lose_nothing() -> None:
    before = LOGINS.value("wrong")
    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(lambda: [LOGINS.add("wrong") for _ in range(5000)])
    assert LOGINS.value("wrong") - before == 40_000


def test_what_a_killed_process_has_counted_stays_and_no_sum_ever_falls() -> None:
    """Five generations of processes that are killed while they count; the sum is looked at all the time."""
    last = start = LOGINS.value("busy")
    for _ in range(5):
        reading, writing = os.pipe()

        def count(number: int, writing: int = writing) -> None:
            for round_ in range(10**9):
                LOGINS.add("busy")
                if round_ == 100:
                    os.write(writing, b"!")

        def kill(child: int, reading: int = reading) -> None:
            nonlocal last
            os.read(reading, 1)
            for _ in range(50):
                now = LOGINS.value("busy")
                assert now >= last
                last = now
            os.kill(child, signal.SIGKILL)

        in_processes(3, count, kill)
        os.close(reading)
        os.close(writing)
        assert LOGINS.value("busy") >= last
        last = LOGINS.value("busy")
    assert last - start >= 1500


def test_the_rows_of_dead_processes_are_taken_again() -> None:
    """Twice as many processes as there are rows, one after the other: none is left without one."""
    program = (
        "import os\n"
        "import vault.metrics as metrics\n"
        "def child():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        metrics.LOGINS.add('ok')\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        f"for _ in range({SLOTS} // 8): child()\n"
        "cells = metrics._cells\n"
        "used = sum(1 for slot in range(metrics.SLOTS) if cells._numbers[slot * cells._width])\n"
        "print(metrics.LOGINS.value('ok'), used)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{SLOTS / 8}", "1"]


def test_more_processes_than_rows_do_no_harm() -> None:
    program = (
        "import os\n"
        "import vault.metrics as metrics\n"
        "metrics.SLOTS = 1\n"
        "metrics.LOGINS.add('ok')\n"
        "if os.fork() == 0:\n"
        "    metrics.LOGINS.add('ok')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(metrics.LOGINS.value('ok'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0"]


def test_a_label_has_only_the_values_that_it_was_made_with() -> None:
    for values in (("alice",), (), ("ok", "ok")):
        with pytest.raises(KeyError):
            LOGINS.add(*values)


def test_a_duration_counts_in_the_bucket_whose_bound_it_does_not_pass() -> None:
    def buckets() -> dict[str, float]:
        found = re.findall(r'docvault_open_seconds_bucket\{le="([^"]+)"\} (\S+)', shown())
        return {bound: float(count) for bound, count in found}

    before = buckets()
    for seconds in (0.1, 0.1001, 31.0):
        OPEN_SECONDS.observe(seconds)
    more = {bound: count - before[bound] for bound, count in buckets().items()}
    assert list(more) == [*(str(bound) for bound in BOUNDS), "+Inf"]
    assert (more["0.05"], more["0.1"], more["0.25"], more["30.0"], more["+Inf"]) == (0, 1, 2, 2, 3)


def shown(accept: str = "") -> str:
    return exposition(Gauges("1.2.3"), accept)[0].decode()


def test_both_forms_of_exposition() -> None:
    plain, kind = exposition(Gauges("1.2.3"), "text/plain")
    assert kind.startswith("text/plain") and b'docvault_info{version="1.2.3"} 1.0' in plain
    modern, kind = exposition(Gauges("1.2.3"), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text") and modern.endswith(b"# EOF\n")


def test_a_gauge_that_is_not_known_is_left_out() -> None:
    gauges = Gauges("1")
    gauges.add("docvault_known", "Known", 0.0)
    gauges.add("docvault_unknown", "Unknown", None)
    text = exposition(gauges, "")[0].decode()
    assert "docvault_known 0.0" in text and "docvault_unknown" not in text


def test_counting_and_scraping_are_cheap() -> None:
    """Twenty times what was seen on a slow machine: a request counts about six times, and a scrape takes 5 ms."""
    began = time.thread_time()
    for _ in range(10_000):
        LOGINS.add("ok")
    assert (time.thread_time() - began) / 10_000 < 12e-6
    began = time.thread_time()
    shown()
    assert time.thread_time() - began < 0.1
