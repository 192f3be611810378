"""The last deep check's result, kept for those whom it concerns: all of it for an administrator, ids and counts and no
name; for everybody else what it says of his own documents.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vault.errors import Forbidden
from vault.models import CheckReport, CheckResult, DocumentIndex
from vault.services import seals
from vault.services.audit import Event
from vault.services.check import Finding, Report
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

DEEP_ID = b"docvault check d"
KEPT = 1000
"""So many findings are kept; of what is beyond, the number."""


@dataclass(frozen=True)
class ResultView:
    """A result for an administrator; ``findings`` holds the first of ``found``."""

    began_at: datetime
    ended_at: datetime
    rows: int
    blobs: int
    read_bytes: int
    found: int
    by_invariant: dict[str, int]
    findings: list[Finding]
    one_reader: int
    no_reader: int
    no_recovery: int

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.began_at).total_seconds()


@dataclass(frozen=True)
class OwnFinding:
    """What was found about one of one's own documents; the name is empty where it does not open."""

    document_id: bytes
    name: str
    findings: tuple[tuple[str, str], ...]
    """Which invariant each breaks, and what the operator is told of it."""


@dataclass(frozen=True)
class OwnView:
    """What the last deep check says of one's own documents."""

    ended_at: datetime
    findings: list[OwnFinding]
    one_reader: int
    no_reader: int
    has_recovery: bool


class CheckResults:
    """Keep the result of the last deep check, and show it."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def keep(self, report: Report) -> None:
        """Put this result in the place of the last one."""
        text = json.dumps(_encoded(report))

        def work(session: Session) -> None:
            figures = {
                "began_at": report.began_at,
                "ended_at": report.ended_at,
                "rows": sum(report.counted.values()) - report.counted.get("blob", 0),
                "blobs": report.blobs_read,
                "read_bytes": report.read_bytes,
                "findings": len(report.findings),
            }
            for model in (CheckReport, CheckResult):
                # Not loaded first: a row that somebody has edited must not keep the next result from being kept.
                session.execute(
                    delete(model).execution_options(unverified="replaced", synchronize_session=False)
                )
            session.add(CheckResult(id=DEEP_ID, **figures))
            session.flush()
            session.add(CheckReport(id=DEEP_ID, report=text))
            found = f"{len(report.findings)} findings"
            self._transactions.record(
                Event("check", None, "check_result", DEEP_ID, succeeded=report.whole, detail=found)
            )

        self._transactions.writing(work)

    def last(self, account: UnlockedAccount | None) -> ResultView | None:
        """Show the last result to an administrator, or to the operator; ``None`` when there is none to believe."""
        if account is not None and not account.is_admin:
            raise Forbidden("Only an administrator may do this.")
        with self._transactions.reading() as session:
            found = _load(session)
        if found is None:
            return None
        result, report = found
        return ResultView(
            result.began_at, result.ended_at, result.rows, result.blobs, result.read_bytes, result.findings,
            report["by_invariant"], [_finding(each) for each in report["findings"]],
            sum(report["one_reader"].values()), sum(report["no_reader"].values()), len(report["no_recovery"]),
        )  # fmt: skip

    def own(self, account: UnlockedAccount) -> OwnView | None:
        """Show what the last result says of one's own documents, each by its name."""
        with self._transactions.reading(account.user_id) as session:
            found = _load(session)
            if found is None:
                return None
            result, report = found
            told: dict[bytes, list[tuple[str, str]]] = {}
            for finding in (_finding(each) for each in report["findings"]):
                if finding.owner_id == account.user_id and finding.document_id is not None:
                    told.setdefault(finding.document_id, []).append((finding.invariant, finding.text))
            names = _names(session, account, list(told))
        me = account.user_id.hex()
        findings = [OwnFinding(each, names.get(each, ""), tuple(said)) for each, said in told.items()]
        return OwnView(
            result.ended_at, sorted(findings, key=lambda finding: finding.name.casefold()),
            report["one_reader"].get(me, 0), report["no_reader"].get(me, 0), me not in report["no_recovery"],
        )  # fmt: skip


def _load(session: Session) -> tuple[Any, dict[str, Any]] | None:
    """Give figures and report; ``None`` also where they do not bear their seals, which the next check tells."""
    statement = select(*seals.columns(CheckResult, CheckReport)).join(
        CheckReport, CheckReport.id == CheckResult.id
    )
    found = seals.verified_row(session, statement, CheckResult, CheckReport, parameters={})
    if found is None or any(isinstance(row, seals.Refusal) for row in found):
        return None
    return found[0], json.loads(found[1].report)


def _encoded(report: Report) -> dict[str, Any]:
    return {
        "by_invariant": Counter(finding.invariant for finding in report.findings),
        "findings": [_line(finding) for finding in report.findings[:KEPT]],
        "one_reader": Counter(owner.hex() for owner in report.risks.one_reader.values()),
        "no_reader": Counter(owner.hex() for owner in report.risks.no_reader.values()),
        "no_recovery": [user.hex() for user in report.risks.no_recovery],
    }


def _line(finding: Finding) -> list[str]:
    document, owner = finding.document_id or b"", finding.owner_id or b""
    return [finding.invariant, finding.text, document.hex(), owner.hex()]


def _finding(line: list[str]) -> Finding:
    invariant, text, document, owner = line
    return Finding(invariant, text, bytes.fromhex(document) or None, bytes.fromhex(owner) or None)


def _names(session: Session, account: UnlockedAccount, document_ids: list[bytes]) -> dict[bytes, str]:
    """Name one's own documents from one's own index; one whose entry does not open is left out."""
    names: dict[bytes, str] = {}
    for start in range(0, len(document_ids), 500):
        statement = select(*seals.columns(DocumentIndex)).where(
            DocumentIndex.reader_id == account.user_id,
            DocumentIndex.document_id.in_(document_ids[start : start + 500]),
        )
        for (row,) in seals.verified_rows(session, statement, DocumentIndex):
            try:
                entry = account.index_key.open(
                    seals.believed(row).sealed_entry, document=row.document_id, reader=account.user_id
                )
            except seals.Refusal:
                continue
            names[row.document_id] = entry.name
    return names
