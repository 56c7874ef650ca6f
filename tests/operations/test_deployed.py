"""deploy/: metrics and files that it names exist, and its tests cover every alert."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from provider_registration.observability import metrics
from provider_registration.settings import Settings

from .deployed import (
    GRAFANA,
    PROMETHEUS,
    ROOT,
    alerts,
    config,
    dashboard,
    needs_prometheus,
    panel_expressions,
    rules,
    without_strings,
)

OPERATIONS = (ROOT / "OPERATIONS.md").read_text()
ANCHORS = {
    re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.+)$", OPERATIONS)
}
WORDS = {
    "sum",
    "max",
    "min",
    "count",
    "by",
    "and",
    "or",
    "on",
    "offset",
    "absent",
    "vector",
    "rate",
    "increase",
    "time",
} | {
    "group_left",
    "histogram_quantile",
    "label_replace",
    "max_over_time",
    "min_over_time",
}
FROM_THE_TARGET = {"job", "instance"}
FROM_OTHERS = {  # of node_exporter, with the file that the backup's timer writes, and of blackbox_exporter
    "node_filesystem_avail_bytes": {"fstype", "mountpoint"},
    "node_filesystem_size_bytes": {"fstype", "mountpoint"},
    "probe_ssl_earliest_cert_expiry": set(),
    "provider_registration_last_backup_timestamp_seconds": set(),
}
RUNBOOKS = "https://runbooks.example/"
PROMQL = re.findall(r"(?s)```promql\n(.*?)```", OPERATIONS)


def known_series():
    """Names of series with their labels."""
    found = {"up": set(), **FROM_OTHERS, **{rule["record"]: set() for rule in rules() if "record" in rule}}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            labels = set(metric._labelnames)
            if family.type == "histogram":
                found |= {f"{family.name}_count": labels, f"{family.name}_bucket": labels | {"le"}}
            else:
                found[f"{family.name}_total" if family.type == "counter" else family.name] = labels
    return found


EXPRESSIONS = [*(rule["expr"] for rule in rules()), *panel_expressions(), *PROMQL]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_series_and_labels_that_exist(expression):
    series, bare = known_series(), without_strings(expression)
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", bare):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= series[name] | FROM_THE_TARGET
    outside = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left) \([^)]*\)|offset \w+|\b[\d.]+\b", " ", bare)

    assert set(re.findall(r"[\w:]+", outside)) <= set(series) | WORDS


def test_a_bucket_that_is_asked_for_exists():
    bounds = {str(bound) for bound in metrics.REQUEST_SECONDS._upper_bounds}

    asked = {bound for expression in EXPRESSIONS for bound in re.findall(r'le="([^"]+)"', expression)}
    assert asked == {"0.1"}
    assert asked <= bounds


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name):
    alert = alerts()[name]

    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    url = alert["annotations"]["runbook_url"]
    assert url.startswith(f"{RUNBOOKS}OPERATIONS.md")
    anchors = set(re.findall(r"#([\w-]+)", url))
    assert anchors
    assert anchors <= ANCHORS
    [row] = [line for line in OPERATIONS.splitlines() if line.startswith(f"| `{name}` |")]
    assert set(re.findall(r"\(#([\w-]+)\)", row)) == anchors
    assert f"| `{name}` | {alert['labels']['severity']} |" in OPERATIONS


def test_the_documented_command_sets_the_runbook_url_of_every_alert(tmp_path):
    copy = tmp_path / "rules/alerts.yml"
    copy.parent.mkdir()
    shutil.copy(PROMETHEUS / "rules/alerts.yml", copy)
    [command] = re.findall(r"(?m)^#? *(sed -i .*)$", copy.read_text())
    assert command in OPERATIONS
    [new] = re.findall(r"\|(https://[^|]+)\|", command.partition(RUNBOOKS.rstrip("/"))[2])

    subprocess.run(["/bin/bash", "-c", command], cwd=tmp_path, check=True)

    changed = [rule for group in yaml.safe_load(copy.read_text())["groups"] for rule in group["rules"]]
    assert len(changed) == len(alerts())
    assert all(rule["annotations"]["runbook_url"].startswith(f"{new}/OPERATIONS.md") for rule in changed)
    assert RUNBOOKS not in str(changed)


def test_the_document_names_no_other_alert():
    assert set(re.findall(r"`(ProviderRegistration\w+)`", OPERATIONS)) == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_tested_to_fire_and_to_be_silent(name):
    checks = [
        check
        for path in (PROMETHEUS / "tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for check in test["promql_expr_test"]
        if f'alertname="{name}"' in check["expr"]
    ]

    assert {bool(check["exp_samples"]) for check in checks} == {True, False}


def test_the_service_is_scraped_where_it_listens():
    [scrape] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]

    assert scrape["job_name"] in alerts()["ProviderRegistrationDown"]["expr"]
    [target] = scrape["static_configs"]
    assert target["targets"] == [f"127.0.0.1:{Settings.model_fields['app_port'].default}"]


def test_every_panel_has_a_place_and_asks_the_source_that_is_chosen():
    board = dashboard()
    variables = {variable["name"] for variable in board["templating"]["list"]}

    assert board["uid"] == "provider-registration"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["targets"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    asked = set(re.findall(r"\$\{?(\w+)", str(board["panels"]))) - {"__rate_interval", "1"}
    assert asked == variables


def test_grafana_has_one_data_source_and_the_folder():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/provider-registration.yml").read_text())

    assert [one["type"] for one in source["datasources"]] == ["prometheus"]
    assert [one["options"]["path"] for one in provider["providers"]] == ["/var/lib/grafana/dashboards"]


async def promtool(*arguments):
    process = await asyncio.create_subprocess_exec(
        *("promtool", *map(str, arguments)),
        env=os.environ | {"GOGC": "400"},  # it is short: less garbage collection saves a fifth of its CPU time
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@needs_prometheus
async def test_promtool_takes_the_configuration(tmp_path):
    (tmp_path / "token").write_text("a token")
    (tmp_path / "prometheus.yml").write_text(config(tmp_path / "token", ["127.0.0.1:5004"]))

    await promtool("check", "config", tmp_path / "prometheus.yml")
    await promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


@needs_prometheus
async def test_promtool_takes_the_jobs_that_are_documented_for_other_exporters(tmp_path):
    [jobs] = re.findall(r"(?s)```yaml\n(.*?)```", OPERATIONS)
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    settings["scrape_configs"] += yaml.safe_load(jobs)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))

    await promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    asked = set(re.findall(r'job="([^"]+)"', str([rule["expr"] for rule in rules()])))
    assert {job["job_name"] for job in settings["scrape_configs"]} == asked


@needs_prometheus
@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
async def test_the_rules_do_as_their_tests_say(path):
    await promtool("test", "rules", path)
