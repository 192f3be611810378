"""``ops/alerts.yml``: promtool reads the rules and tries each against made-up series; they ask for what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.plugin import need
from vault.metrics import Gauges, exposition

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT / "ops" / "alerts.yml"
TRIALS = ROOT / "tests" / "alerts.yml"
FROM_THE_DATABASE = {
    "docvault_master_key_timestamp_seconds",
    "docvault_deep_check_timestamp_seconds",
    "docvault_deep_check_findings",
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    return need("prometheus")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def run(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules(promtool: Path) -> None:
    assert f"SUCCESS: {len(rules())} rules found" in run(promtool, "check", "rules", ALERTS)


def test_promtool_tries_each_rule_where_it_fires_and_where_it_does_not(
    promtool: Path, tmp_path: Path
) -> None:
    trials = tmp_path / "trials.yml"
    trials.write_text(TRIALS.read_text().replace("[ALERTS]", f"[{ALERTS}]"))
    run(promtool, "test", "rules", trials)
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load(TRIALS.read_text())["tests"]:
        for trial in test["alert_rule_test"]:
            tried.setdefault(trial["alertname"], set()).add("exp_alerts" in trial)
    assert tried == {rule["alert"]: {True, False} for rule in rules()}


def test_a_rule_that_does_not_fire_fails_the_trial(promtool: Path, tmp_path: Path) -> None:
    changed, trials = tmp_path / "alerts.yml", tmp_path / "trials.yml"
    changed.write_text(ALERTS.read_text().replace("> 0.1", "> 0.2"))
    trials.write_text(TRIALS.read_text().replace("[ALERTS]", f"[{changed}]"))
    done = subprocess.run([promtool, "test", "rules", trials], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "DocvaultOpeningSlow" in done.stdout + done.stderr


def test_the_rules_ask_for_what_a_scrape_has(promtool: Path) -> None:
    """Each name and each label value of a rule is one that the vault exposes; and promtool likes the exposition."""
    text = exposition(Gauges("0"), "")[0].decode()
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    shown = set(re.findall(r"^(\w+)(?:\{| )", text, re.MULTILINE)) | FROM_THE_DATABASE
    for rule in rules():
        expression = rule["expr"]
        assert set(re.findall(r"docvault_\w+", expression)) <= shown, rule["alert"]
        for label, values in re.findall(r'(\w+)=~?"([^"]+)"', expression):
            for value in values.split("|"):
                assert label == "job" or f'{label}="{value}"' in text, f"{rule['alert']}: {label}={value}"
