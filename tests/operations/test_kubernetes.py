"""deploy/kubernetes: files that Kubernetes takes, that fit together and the service, and that grant nothing."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from provider_registration import __version__
from provider_registration.cli import SHUTDOWN_MARGIN_SECONDS
from provider_registration.health.router import router
from provider_registration.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
VERSIONS = ("1.31", "1.37")  # of Kubernetes
MAX_CONNECTIONS = 100  # PostgreSQL's default


def read(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


RESOURCES = read("kustomization")["resources"]
KNOWN = [
    name.removesuffix(".yaml") for name in RESOURCES if name != "servicemonitor.yaml"
]  # that is not Kubernetes' own
WITH_PODS = ["migration", "deployment"]


def pod(name):
    return read(name)["spec"]["template"]["spec"]


def labels_of_pods(name):
    return read(name)["spec"]["template"]["metadata"]["labels"]


def test_every_file_is_applied():
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*RESOURCES, "kustomization.yaml"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KNOWN)
def test_a_file_follows_the_published_schema(name, version):
    kubernetes_validate.validate(read(name), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mistake_would_be_found(version):
    wrong = read("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("name", WITH_PODS)
def test_pods_keep_to_the_restricted_standard(name):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", WITH_PODS)
def test_containers_run_this_version_and_say_what_they_need(name):
    [container] = pod(name)["containers"]

    assert container["image"] == f"provider-registration:{__version__}"
    assert {*container["resources"]["requests"]} == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_probes_ask_what_the_service_answers():
    [container] = pod("deployment")["containers"]
    asked = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}

    assert asked == {"/health/live", "/health/ready"} <= {route.path for route in router.routes}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"  # a restart does not mend the database
    assert container["ports"] == [{"name": "http", "containerPort": Settings.model_fields["app_port"].default}]


def test_a_pod_has_the_time_that_the_service_takes_to_end():
    deadline = Settings.model_fields["billing_deadline_seconds"].default
    waits = int(re.search(r"sleep\((\d+)\)", str(pod("deployment")["containers"][0]["lifecycle"]))[1])

    assert pod("deployment")["terminationGracePeriodSeconds"] > waits + deadline + SHUTDOWN_MARGIN_SECONDS


def test_everything_selects_the_pods_that_serve():
    served = labels_of_pods("deployment").items()

    assert read("deployment")["spec"]["selector"]["matchLabels"].items() <= served
    assert read("service")["spec"]["selector"].items() <= served
    assert read("poddisruptionbudget")["spec"]["selector"]["matchLabels"].items() <= served
    assert not read("service")["spec"]["selector"].items() <= labels_of_pods("migration").items()
    assert (
        read("servicemonitor")["spec"]["selector"]["matchLabels"].items()
        <= read("service")["metadata"]["labels"].items()
    )
    assert read("servicemonitor")["spec"]["endpoints"][0]["port"] == read("service")["spec"]["ports"][0]["name"]
    target = read("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", read("deployment")["metadata"]["name"])


def test_all_replicas_together_leave_postgresql_connections():
    replicas = read("horizontalpodautoscaler")["spec"]["maxReplicas"]

    assert replicas * Settings.model_fields["database_pool_size"].default < MAX_CONNECTIONS


@pytest.mark.parametrize("name", WITH_PODS)
def test_the_settings_that_are_named_exist(name):
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", (FOLDER / f"{name}.yaml").read_text()))

    assert named <= {field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("name", [*KNOWN, "servicemonitor"])
def test_no_secret_is_in_a_file(name):
    assert read(name)["kind"] != "Secret"
    assert "stringData" not in (FOLDER / f"{name}.yaml").read_text()
