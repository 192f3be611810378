"""A row of the result, and how rows are shown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Row:
    """One figure with the figure that must be reached; a ratio where it has one is what counts."""

    what: str
    value: float
    unit: str
    better: Better = "less"
    must: float | None = None
    aim: float | None = None
    plain: float | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def counted(self) -> float:
        return self.value if self.ratio is None else self.ratio

    @property
    def reached(self) -> bool | None:
        """Whether the must is reached; ``None`` where there is none."""
        if self.must is None:
            return None
        return self.counted >= self.must if self.better == "more" else self.counted <= self.must


def transfer(
    what: str, seconds: float, plain: float, must: float | None = None, aim: float | None = None
) -> Row:
    """A transfer: plain seconds over the vault's, so that 1 is as fast as plain."""
    return Row(what, seconds, "s", "more", must, aim, plain, plain / seconds)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) | {"reached": row.reached} for row in rows], indent=2)


HEAD = ("what", "measured", "plain", "ratio", "must", "aim", "reached")


def as_text(rows: Sequence[Row]) -> str:
    """A table in plain text; notes stand below."""
    notes = [f"{row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([columns([HEAD, *[_cells(row) for row in rows]]), *notes])


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Set lines of cells in columns, the first line as their head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = []
    for number, line in enumerate(lines):
        first, *rest = (cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(
            zip(line, widths, strict=True)))  # fmt: skip
        text.append("  ".join((first, *rest)).rstrip())
        if number == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, ...]:
    sign = ">= " if row.better == "more" else "<= "
    unit = "" if row.ratio is not None else row.unit
    return (
        row.what,
        _number(row.value, row.unit),
        "" if row.plain is None else _number(row.plain, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.must is None else sign + _number(row.must, unit),
        "" if row.aim is None else sign + _number(row.aim, unit),
        {None: "", True: "yes", False: "NO"}[row.reached],
    )


def _number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3f} s"
    digits = 3 if unit == "%" else 2 if unit == "" or value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}".rstrip()
