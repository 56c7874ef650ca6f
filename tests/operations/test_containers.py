"""The container files: what linters and nginx itself can say of them without an engine."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from provider_registration.local.postgres import free_port

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {"migrate", "api", "billing-sandbox"}
BIN = Path(sys.executable).parent
HADOLINT = shutil.which("hadolint", path=str(BIN))
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_compose_file_is_one():
    run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint for this machine")
def test_the_dockerfile_has_no_known_weakness():
    run(HADOLINT, "--failure-threshold", "info", "Dockerfile")


def test_every_port_is_for_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_image_names_its_version():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]

    assert images
    assert all(re.search(r":v?\d+(\.\d+)*(-alpine)?$", image) for image in images)


def test_the_api_is_reached_through_nginx_alone_and_there_are_two():
    assert "ports" not in SERVICES["api"]
    assert SERVICES["api"]["deploy"]["replicas"] == 2
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"]["internal"] is True


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_is_ours_can_write_nowhere_and_gain_nothing(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_files_that_are_mounted_are_there():
    paths = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume[0] == "."
    ]

    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_the_inline_datasource_is_the_one_that_the_dashboard_asks():
    inline = yaml.safe_load(COMPOSE["configs"]["grafana-datasource"]["content"])
    alone = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())

    assert {**inline["datasources"][0], "url": alone["datasources"][0]["url"]} == alone["datasources"][0]


def test_the_inline_prometheus_takes_the_same_rules():
    inline = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    alone = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())

    assert {**inline, "scrape_configs": None} == {**alone, "scrape_configs": None}
    assert inline["scrape_configs"][0]["job_name"] == alone["scrape_configs"][0]["job_name"]


@pytest.fixture
async def nginx(request, serving, environment, tmp_path):
    """The nginx of the Compose file before a `serve`: its own file, with other addresses."""
    async with serving({**environment, "FORWARDED_ALLOW_IPS": "127.0.0.1"}, tmp_path) as process:
        port, folder = free_port(), tmp_path / "nginx"
        folder.mkdir()
        server = (ROOT / "deploy/nginx/default.conf").read_text()
        addresses = {
            "listen 8080": f"listen 127.0.0.1:{port}",
            "http://api:5004": process.url,
            **getattr(request, "param", {}),
        }
        for theirs, ours in addresses.items():
            assert theirs in server
            server = server.replace(theirs, ours)
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log stderr; events {{}}"
            f"http {{ access_log off; {temporary} {server} }}"
        )
        running = await asyncio.create_subprocess_exec(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"))
        try:
            async with asyncio.timeout(30), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                while True:
                    try:
                        await client.get("/health/live")
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.05)
                yield client
        finally:
            running.terminate()
            await running.wait()


@pytest.mark.skipif(NGINX is None, reason="there is no nginx")
async def test_nginx_leads_to_the_service_and_hides_its_metrics(nginx, registration):
    assert (await nginx.post("/candidates", json=registration())).status_code == 201
    assert (await nginx.get("/metrics")).status_code == 404
    too_long = await nginx.post("/candidates", content=b"x" * 70_000, headers={"Content-Type": "application/json"})
    assert (too_long.status_code, too_long.headers["Content-Type"]) == (413, "application/problem+json")


async def register_thirty(client, registration, address):
    for _ in range(30):
        last = await client.post("/candidates", json=registration(), headers={"X-Forwarded-For": address})
    assert last.status_code == 201


@pytest.mark.skipif(NGINX is None, reason="there is no nginx")
async def test_nginx_believes_no_caller_about_its_address(nginx, registration):
    await register_thirty(nginx, registration, "203.0.113.9")

    liar = {"X-Forwarded-For": "203.0.113.10"}
    assert (await nginx.post("/candidates", json=registration(), headers=liar)).status_code == 429


@pytest.mark.skipif(NGINX is None, reason="there is no nginx")
@pytest.mark.parametrize("nginx", [{"set_real_ip_from 172.16.0.0/12": "set_real_ip_from 127.0.0.1"}], indirect=True)
async def test_nginx_believes_the_gateway_of_its_machine(nginx, registration):
    await register_thirty(nginx, registration, "203.0.113.9")

    other = {"X-Forwarded-For": "203.0.113.10"}
    assert (await nginx.post("/candidates", json=registration(), headers=other)).status_code == 201
