"""The files in deploy/, parsed for the tests."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="prometheus is not installed (Debian: apt install prometheus)",
)


def rules():
    """Every rule in Prometheus' files."""
    return [
        rule
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard():
    [path] = (GRAFANA / "dashboards").glob("*.json")
    return json.loads(path.read_text())


def panel_expressions(window="5m"):
    """The panels' queries, for every job and instance."""
    variables = {"$__rate_interval": window, "$job": ".*", "$instance": ".*"}
    found = []
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            found.append(expression)
    return found


DURATION = re.compile(r"(?<=for: )(\d+)([mhd])\b|(?<=\[)(\d+)([mhd])(?=\])|(?<=offset )(\d+)([mhd])\b")
SECONDS = {"m": 60, "h": 3600, "d": 86400}


def faster_rules(folder, factor):
    """A copy of the rules with every `for`, window and offset divided by a factor; thresholds stay."""
    folder.mkdir()

    def shorter(found):
        number, unit = [part for part in found.groups() if part]
        return f"{int(number) * SECONDS[unit] * 1000 // factor}ms"

    for path in (PROMETHEUS / "rules").glob("*.yml"):
        (folder / path.name).write_text(DURATION.sub(shorter, path.read_text()))
    return folder


def config(token_file, targets, *, rule_folder=PROMETHEUS / "rules", **interval):
    """prometheus.yml with other targets, another token file and rules beside it."""
    text = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [scrape] = text["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(token_file)
    scrape["static_configs"] = [{"targets": targets}]
    text["rule_files"] = [
        str(rule_folder.parent / files.replace("rules", rule_folder.name)) for files in text["rule_files"]
    ]
    text["global"].update(interval)
    return yaml.safe_dump(text)


def without_strings(expression):
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
