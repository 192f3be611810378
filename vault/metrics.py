"""What is counted: numbers and durations with fixed labels, never a name, an id or an address of anybody.

All processes of a server count into one piece of memory that they inherit (see ``Cells``), so any of them answers a
scrape for all, a worker that dies takes nothing with it, and there is no folder of files to clean. prometheus_client
writes the answer; its own multiprocess mode keeps a file for each process that ever lived, and reads them all each
time.

To count costs a third of a microsecond and waits for nobody outside of the process.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SLOTS = 1024
"""As many processes of one server can count at once; a reload keeps the old ones for up to an hour."""

Labels = Mapping[str, tuple[str, ...]]


class Instrument:
    """A number for each combination of label values that there can be; none other can ever appear."""

    width = 1

    def __init__(self, name: str, told: str, labels: Labels | None = None) -> None:
        self.name = name
        self.told = told
        self.labels = dict(labels or {})
        self.start = 0
        combinations = itertools.product(*self.labels.values())
        self._at = {values: position * self.width for position, values in enumerate(combinations)}
        _instruments.append(self)

    @property
    def size(self) -> int:
        return len(self._at) * self.width

    def values(self) -> Iterator[tuple[tuple[str, ...], list[float]]]:
        """Give the sums over all processes, for each combination of labels."""
        sums = _cells.sums(self.start, self.size)
        for labels, position in self._at.items():
            yield labels, sums[position : position + self.width]


_instruments: list[Instrument] = []


class Counter(Instrument):
    """A number that only grows."""

    def add(self, *values: str, amount: float = 1.0) -> None:
        """Count; a value that the label does not have is a ``KeyError``."""
        _cells.add(self.start + self._at[values], amount)

    def value(self, *values: str) -> float:
        """Tell what all processes have counted together."""
        return _cells.sums(self.start + self._at[values], 1)[0]

    def family(self) -> CounterMetricFamily:
        family = CounterMetricFamily(self.name, self.told, labels=list(self.labels))
        for labels, (number,) in self.values():
            family.add_metric(labels, number)
        return family


BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. 100 ms stands among them because an alert asks for it."""


class Histogram(Instrument):
    """Durations in seconds, by how many were no longer than each of ``BOUNDS``."""

    width = len(BOUNDS) + 2

    def observe(self, seconds: float, *values: str) -> None:
        start = self.start + self._at[values]
        _cells.add_two(start + bisect_left(BOUNDS, seconds), start + self.width - 1, seconds)

    def count(self, *values: str) -> float:
        """Tell how many durations all processes have observed together."""
        return sum(_cells.sums(self.start + self._at[values], self.width - 1))

    def family(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(self.name, self.told, labels=list(self.labels))
        names = [*(str(bound) for bound in BOUNDS), "+Inf"]
        for labels, (*counts, total) in self.values():
            family.add_metric(labels, list(zip(names, itertools.accumulate(counts), strict=True)), total)
        return family


class Cells:
    """Numbers that processes forked from one another share: each adds to a row of its own, who reads sums the rows.

    The memory is a file without a name, which is gone with the last process. A row belongs to whoever holds the
    kernel's lock on one byte of that file, so it is free again in the moment its process dies, however that happens;
    what it has counted stays, and the next one goes on from there: no sum ever falls while the server lives. Nothing
    is shared but by ``fork``, from a process that had imported this before.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._file = _nameless_file(SLOTS * width * 8)
        self._numbers = memoryview(mmap.mmap(self._file, SLOTS * width * 8)).cast("d")
        self._lock = Lock()
        self._row: int | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = Lock()  # another thread of the parent may have held it
        self._row = None

    def add(self, cell: int, amount: float) -> None:
        """Add to one number of this process."""
        with self._lock:
            row = self._row if self._row is not None else self._take_row()
            self._numbers[row + cell] += amount

    def add_two(self, cell: int, other: int, amount: float) -> None:
        """Add one to the first, and ``amount`` to the other."""
        with self._lock:
            row = self._row if self._row is not None else self._take_row()
            self._numbers[row + cell] += 1.0
            self._numbers[row + other] += amount

    def _take_row(self) -> int:
        for slot in range(SLOTS):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                continue
            self._row = slot * self._width
            self._numbers[self._row] = 1.0
            return self._row
        # As many as that never live at once; what this one counts would then be seen by nobody.
        self._numbers, self._row = memoryview(bytearray(self._width * 8)).cast("d"), 0
        return 0

    def sums(self, start: int, count: int) -> list[float]:
        """Sum some numbers over all rows that were ever used."""
        found, used = [0.0] * count, self._numbers[:: self._width].tolist()
        for row in (slot * self._width for slot, is_used in enumerate(used) if is_used):
            there = self._numbers[row + start : row + start + count].tolist()
            found = [one + other for one, other in zip(found, there, strict=True)]
        return found


def _nameless_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("docvault-metrics", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


LOGINS = Counter(
    "docvault_logins",
    "Attempts to log in",
    {"outcome": ("ok", "wrong", "disabled", "throttled", "busy", "error")},
)
LOGIN_SECONDS = Histogram("docvault_login_seconds", "How long logins took that succeeded")
METHODS = ("passphrase", "session", "recovery")
UNLOCKS = Counter(
    "docvault_unlocks",
    "Account keys opened, or not, by a passphrase, by the session of a request, by a recovery code",
    {"method": METHODS, "outcome": ("ok", "failed")},
)
UNLOCK_SECONDS = Histogram(
    "docvault_unlock_seconds", "How long it took to open an account key", {"method": METHODS}
)
OPENS = Counter(
    "docvault_opens", "Documents opened, or not, up to their first byte", {"outcome": ("ok", "failed")}
)
OPEN_SECONDS = Histogram("docvault_open_seconds", "How long it took to open a document, to its first byte")
OPEN_FAILURES = Counter(
    "docvault_open_failures",
    "Documents that could not be opened by somebody who may, by kind",
    {"kind": ("integrity", "key_changed", "key_unavailable", "store", "busy", "other")},
)
INTEGRITY_OBJECTS = ("document", "user", "session", "upload", "row")
INTEGRITY_FAILURES = Counter(
    "docvault_integrity_failures",
    "Seals, signatures and chunks that did not fit, by what they belong to",
    {"object": INTEGRITY_OBJECTS},
)
ROTATIONS = Counter(
    "docvault_rotations",
    "Keys that were exchanged: passphrase, account key, key pairs, keys of a document, master key",
    {"kind": ("passphrase", "account_key", "key_pair", "document", "master_key")},
)
OPERATIONS = ("put", "get", "size", "delete", "list", "quarantine")
STORE_ERRORS = Counter(
    "docvault_store_errors",
    "Failures of the blob store",
    {"operation": OPERATIONS, "kind": ("unavailable", "full", "missing")},
)
STORE_SECONDS = Histogram(
    "docvault_store_seconds", "How long the blob store took to answer", {"operation": ("put", "get")}
)
STORE_BYTES = Counter(
    "docvault_store_bytes", "Bytes of ciphertext put and got", {"direction": ("put", "got")}
)
CONTENT_BYTES = Counter(
    "docvault_content_bytes", "Bytes of documents received and sent", {"direction": ("received", "sent")}
)
DATABASE_ERRORS = Counter(
    "docvault_database_errors",
    "Failures of the database: locked or away, no free connection, a transaction tried again or given up, a lost "
    "connection",
    {"kind": ("busy", "pool", "retried", "conflict", "lost")},
)
REQUESTS = Counter(
    "docvault_requests", "Answers, by the first digit of their status", {"status": ("1", "2", "3", "4", "5")}
)
REQUEST_SECONDS = Histogram(
    "docvault_request_seconds", "How long a request took, to the first byte of its answer"
)


def _place() -> int:
    """Give each instrument its cells; the first cell of a row says that it is used."""
    width = 1
    for instrument in _instruments:
        instrument.start = width
        width += instrument.size
    return width


_cells = Cells(_place())


class Gauges:
    """Numbers that stand in the database, read for one scrape; ``None`` is left out."""

    def __init__(self, version: str) -> None:
        self._families = [GaugeMetricFamily("docvault_info", "The release that runs", labels=["version"])]
        self._families[0].add_metric([version], 1.0)

    def add(self, name: str, told: str, value: float | None) -> None:
        if value is not None:
            self._families.append(GaugeMetricFamily(name, told, value=value))

    def families(self) -> list[GaugeMetricFamily]:
        return self._families


class _Everything(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[CounterMetricFamily | HistogramMetricFamily | GaugeMetricFamily]:
        yield from (each.family() for each in _instruments if isinstance(each, Counter | Histogram))
        yield from self._gauges.families()


def exposition(gauges: Gauges, accept: str) -> tuple[bytes, str]:
    """Write everything for a scrape, in the form that ``accept`` asks for; with its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything(gauges))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
