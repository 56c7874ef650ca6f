"""deploy/kubernetes: manifests are valid, match each other and the service, and grant no permissions."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

import kubernetes_validate
import pytest
import yaml

from provider_registration import __version__, cli
from provider_registration.health.api import router
from provider_registration.serving import SHUTDOWN_MARGIN_SECONDS
from provider_registration.settings import Settings
from tests.documents.markdown import section
from tests.prometheus_rule import prometheus_rule

from .deployed import ROOT, needs_prometheus, rules

FOLDER = ROOT / "deploy/kubernetes"
BASE = FOLDER / "base"
OPERATOR = FOLDER / "overlays/with-prometheus-operator"
EXAMPLE = FOLDER / "overlays/production-example"
VERSIONS = ("1.31", "1.37")  # of Kubernetes
OF_THE_OPERATOR = ("ServiceMonitor", "PrometheusRule")  # whose schemas are not Kubernetes' own
KUBECTL = shutil.which("kubectl")
# PostgreSQL's defaults, and the connections of `migrate`: one for the lock, and one that checks.
MAX_CONNECTIONS, RESERVED, MIGRATION = 100, 3, 2


def read(name, folder=BASE):
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


RESOURCES = [
    *read("kustomization")["resources"],
    *(name for name in read("kustomization", OPERATOR)["resources"] if name.endswith(".yaml")),
]
WITH_PODS = ["migration", "deployment"]


def pod(name):
    return read(name)["spec"]["template"]["spec"]


def containers(name):
    return [*pod(name).get("initContainers", ()), *pod(name)["containers"]]


def labels_of_pods(name):
    return read(name)["spec"]["template"]["metadata"]["labels"]


@cache
def kustomize_is_old():
    """Whether kubectl has kustomize 2.0, as in Debian 12, which reads no folders and has other names for patches."""
    shown = subprocess.run([KUBECTL, "version", "--client"], capture_output=True, text=True, check=False).stdout
    return "Kustomize Version" not in shown


def render(folder, tmp_path):
    """What kubectl would apply."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed (Debian: apt install kubernetes-client)")
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    for path in copy.rglob("kustomization.yaml") if kustomize_is_old() else ():
        asked = yaml.safe_load(path.read_text())
        named = asked.pop("resources")
        asked["bases"] = [name for name in named if not name.endswith(".yaml")]
        asked["resources"] = [name for name in named if name.endswith(".yaml")]
        asked["patchesStrategicMerge"] = [patch["path"] for patch in asked.pop("patches", ())]
        path.write_text(yaml.safe_dump(asked))
    command = [KUBECTL, "kustomize", copy / folder.relative_to(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def named(objects):
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def test_every_file_is_applied():
    files = {path.name for folder in (BASE, OPERATOR) for path in folder.glob("*.yaml")}
    patches = {patch["path"] for patch in read("kustomization", EXAMPLE)["patches"]}

    assert files == {*RESOURCES, "kustomization.yaml"}
    assert {path.name for path in EXAMPLE.glob("*.yaml")} == {*patches, "kustomization.yaml"}
    assert set(FOLDER.rglob("*.yaml")) == {path for one in (BASE, OPERATOR, EXAMPLE) for path in one.glob("*.yaml")}


@pytest.mark.parametrize("folder", [BASE, OPERATOR, EXAMPLE], ids=lambda folder: folder.name)
def test_what_kubectl_makes_of_it_follows_the_published_schema(folder, tmp_path):
    objects = render(folder, tmp_path)

    for one in objects:
        if one["kind"] not in OF_THE_OPERATOR:
            for version in VERSIONS:
                kubernetes_validate.validate(one, version, strict=True)
    assert len(objects) == len(named(objects))


def test_the_operator_gets_what_it_watches_with_besides_the_base(tmp_path):
    base, more = named(render(BASE, tmp_path / "1")), named(render(OPERATOR, tmp_path / "2"))

    assert {kind for kind, _ in more.keys() - base.keys()} == set(OF_THE_OPERATOR)
    assert {name: more[name] for name in base} == base


def test_the_example_changes_image_namespace_replicas_and_network_alone(tmp_path):
    asked = read("kustomization", EXAMPLE)
    plain, example = named(render(OPERATOR, tmp_path / "1")), named(render(EXAMPLE, tmp_path / "2"))
    [image] = asked["images"]
    place = f"{image['newName']}:{image['newTag']}"

    assert example.keys() == plain.keys()
    assert {one["metadata"].pop("namespace") for one in example.values()} == {asked["namespace"]}
    for one in plain.values():
        spec = one["spec"].get("template", {}).get("spec", {})
        for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
            container["image"] = place
    policy = ("NetworkPolicy", "provider-registration")
    assert example[policy]["spec"].pop("egress") != plain[policy]["spec"].pop("egress")
    scaler = ("HorizontalPodAutoscaler", "provider-registration")
    assert example[scaler]["spec"].pop("minReplicas") > plain[scaler]["spec"].pop("minReplicas")
    assert example == plain


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
    for container in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False


@pytest.mark.parametrize("name", WITH_PODS)
def test_containers_run_this_version_and_say_what_they_need(name):
    for container in containers(name):
        assert container["image"] == f"provider-registration:{__version__}"
        assert {*container["resources"]["requests"]} == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_nothing_serves_before_its_settings_are_checked_and_the_schema_is_there():
    [check] = pod("deployment")["initContainers"]
    [api] = pod("deployment")["containers"]

    assert check["args"] == ["provider-registration", "check", "--wait", "300"]
    assert check["envFrom"] == api["envFrom"]
    assert {check["args"][1], pod("migration")["containers"][0]["args"][1]} <= cli.main.commands.keys()


def test_probes_use_paths_of_the_service():
    [container] = pod("deployment")["containers"]
    asked = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}

    assert asked == {"/health/live", "/health/ready"} <= {route.path for route in router.routes}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"  # a restart does not repair the database
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
        read("servicemonitor", OPERATOR)["spec"]["selector"]["matchLabels"].items()
        <= read("service")["metadata"]["labels"].items()
    )
    assert (
        read("servicemonitor", OPERATOR)["spec"]["endpoints"][0]["port"] == read("service")["spec"]["ports"][0]["name"]
    )
    target = read("horizontalpodautoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", read("deployment")["metadata"]["name"])


def test_all_replicas_together_leave_postgresql_connections():
    deployment = read("deployment")["spec"]
    variables = {one["name"]: one["value"] for one in pod("deployment")["containers"][0]["env"]}
    most = read("horizontalpodautoscaler")["spec"]["maxReplicas"] + deployment["strategy"]["rollingUpdate"]["maxSurge"]
    each = int(variables["DATABASE_POOL_SIZE"]) + 1  # for probes

    # One more is terminating, but not two: the next one is replaced after its grace period.
    assert deployment["minReadySeconds"] >= pod("deployment")["terminationGracePeriodSeconds"]
    assert (most + 1) * each + MIGRATION + RESERVED <= 0.9 * MAX_CONNECTIONS, "10 % are for others"


def test_as_many_replicas_as_are_documented_for_compose_leave_postgresql_connections():
    [replicas] = re.findall(r"--scale api=(\d+)", section("DEPLOYMENT.md", "With Docker Compose").text)
    each = Settings.model_fields["database_pool_size"].default + 1

    assert int(replicas) * each + MIGRATION + RESERVED <= MAX_CONNECTIONS < (int(replicas) + 1) * each + RESERVED


def test_pods_are_reached_by_the_ingress_and_prometheus_alone():
    api, migration = yaml.safe_load_all((BASE / "networkpolicy.yaml").read_text())

    assert api["spec"]["podSelector"]["matchLabels"] == labels_of_pods("deployment")
    assert migration["spec"]["podSelector"]["matchLabels"] == labels_of_pods("migration")
    [entrance] = api["spec"]["ingress"]
    assert [peer["namespaceSelector"]["matchLabels"] for peer in entrance["from"]] == [
        {"kubernetes.io/metadata.name": name} for name in ("ingress-nginx", "monitoring")
    ]
    assert entrance["ports"] == [{"port": pod("deployment")["containers"][0]["ports"][0]["name"]}]
    assert "ingress" not in migration["spec"]
    for policy in (api, migration):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule["ports"] for rule in policy["spec"]["egress"])


def test_the_operator_has_the_rules_of_prometheus():
    assert (OPERATOR / "prometheusrule.yaml").read_text() == prometheus_rule(), "write it with `make rules`"
    groups = read("prometheusrule", OPERATOR)["spec"]["groups"]
    assert [rule for group in groups for rule in group["rules"]] == rules()


@needs_prometheus
def test_prometheus_takes_the_rules_of_the_operator(tmp_path):
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(read("prometheusrule", OPERATOR)["spec"]))

    command = [shutil.which("promtool"), "check", "rules", tmp_path / "rules.yml"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", WITH_PODS)
def test_the_settings_that_are_named_exist(name):
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", (BASE / f"{name}.yaml").read_text()))

    assert named <= {field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_secret_is_in_a_file(path):
    assert "stringData" not in path.read_text()
    assert all(one["kind"] != "Secret" for one in yaml.safe_load_all(path.read_text()))
