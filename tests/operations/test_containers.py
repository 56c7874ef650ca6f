"""The container files, checked by linters and nginx without a container engine."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from tests.documents.markdown import section
from tests.ports import a_port

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {"migrate", "api", "billing-sandbox"}
BIN = Path(sys.executable).parent
HADOLINT = shutil.which("hadolint", path=str(BIN))
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")
SECRET = "s3cr3t-of-an-applicant"  # an unused port


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


@dataclass
class Gateway:
    """A running nginx: a client of it, and its log."""

    client: httpx.AsyncClient
    folder: Path

    @property
    def port(self):
        return self.client.base_url.port

    @property
    def accesses(self):
        return (self.folder / "access.log").read_text()

    @property
    def errors(self):
        return (self.folder / "error.log").read_text()


@asynccontextmanager
async def gateway(lines, folder, listens="listen 8080"):
    """An nginx with this configuration and the log level of the image."""
    port, folder = a_port(), folder / "nginx"
    folder.mkdir()
    assert listens in lines
    lines = lines.replace(listens, f"listen 127.0.0.1:{port}").replace("/var/log/nginx", str(folder))
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log notice; events {{}}"
        f"http {{ access_log {folder}/access.log; {temporary} {lines} }}"
    )
    running = await asyncio.create_subprocess_exec(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(30):
                while True:
                    try:
                        await client.get("/health/live")
                        break
                    except httpx.ConnectError:
                        assert running.returncode is None, (folder / "error.log").read_text()
                        await asyncio.sleep(0.05)
            yield Gateway(client, folder)
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


@asynccontextmanager
async def composed(url, folder, **others):
    """The Compose file's nginx in front of a service: the same file with other ports."""
    lines = (ROOT / "deploy/nginx/default.conf").read_text()
    for theirs, ours in {"http://api:5004": url, **others}.items():
        assert theirs in lines
        lines = lines.replace(theirs, ours)
    async with gateway(lines, folder) as gate:
        yield gate


@pytest.fixture
async def limited(request, serving, environment, tmp_path):
    """A client of an nginx in front of a service without registrations."""
    async with serving({**environment, "FORWARDED_ALLOW_IPS": "127.0.0.1"}, tmp_path) as process:
        async with composed(process.url, tmp_path, **getattr(request, "param", {})) as gate:
            yield gate.client


@pytest.fixture(scope="module")
async def pages(serving, environment, tmp_path_factory):
    """A service with pages."""
    async with serving({**environment, "PUBLIC_PAGES": "true"}, tmp_path_factory.mktemp("pages")) as process:
        yield process.url


@pytest.fixture
async def gate(pages, tmp_path):
    async with composed(pages, tmp_path) as gate:
        yield gate


@pytest.fixture
def nginx(gate):
    return gate.client


@needs_nginx
async def test_nginx_forwards_to_the_service_and_hides_its_metrics(nginx, registration):
    assert (await nginx.post("/candidates", json=registration())).status_code == 201
    assert (await nginx.get("/metrics")).status_code == 404
    too_long = await nginx.post("/candidates", content=b"x" * 70_000, headers={"Content-Type": "application/json"})
    assert (too_long.status_code, too_long.headers["Content-Type"]) == (413, "application/problem+json")


async def register_thirty(client, registration, address):
    for _ in range(30):
        last = await client.post("/candidates", json=registration(), headers={"X-Forwarded-For": address})
    assert last.status_code == 201


@needs_nginx
async def test_nginx_ignores_forwarded_addresses_of_clients(limited, registration):
    await register_thirty(limited, registration, "203.0.113.9")

    liar = {"X-Forwarded-For": "203.0.113.10"}
    assert (await limited.post("/candidates", json=registration(), headers=liar)).status_code == 429


@needs_nginx
@pytest.mark.parametrize("limited", [{"set_real_ip_from 172.16.0.0/12": "set_real_ip_from 127.0.0.1"}], indirect=True)
async def test_nginx_trusts_the_gateway_of_its_machine(limited, registration):
    await register_thirty(limited, registration, "203.0.113.9")

    other = {"X-Forwarded-For": "203.0.113.10"}
    assert (await limited.post("/candidates", json=registration(), headers=other)).status_code == 201


async def send(port, request):
    """Send bytes that no client library would; return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@needs_nginx
async def test_nginx_shows_no_stranger_the_health_of_the_service(pages, nginx):
    paths = [f"{prefix}{path}" for prefix in ("", "/registry") for path in ("/health", "/health/live", "/health/ready")]

    assert {(await nginx.get(path)).status_code for path in [*paths, "/health/", "/health%0A", "/metrics"]} == {404}
    async with httpx.AsyncClient(base_url=pages) as inside:
        assert (await inside.get("/health/live")).status_code == 200


@pytest.mark.asvs("V14.2.1")
@needs_nginx
@pytest.mark.parametrize("path", ["/applications/{}", "/%61pplications/{}", "/registry/applications/{}/withdraw"])
async def test_nginx_logs_no_secret_of_an_applicant(gate, nginx, tmp_path_factory, path):
    path, dead = path.format(SECRET), f"http://127.0.0.1:{a_port()}"

    answers = [await nginx.get(path), await nginx.get("/apply")]
    async with composed(dead, tmp_path_factory.mktemp("dead")) as broken:
        answers += [await broken.client.get("/apply"), await broken.client.get(path)]
        answers.append(await broken.client.post(path, content=b"x" * 23_000_000))
        too_long = f"GET /applications/{SECRET} HTTP/1.1\r\nCookie: {'x' * 40_000}\r\n\r\n"
        refused = await send(broken.port, too_long.encode())
        logged = gate.accesses + gate.errors + broken.accesses + broken.errors

    assert [answer.status_code for answer in answers] == [404, 200, 502, 502, 413]
    assert b" 400 " in refused.partition(b"\r\n")[0]
    del answers[1]  # a page with a form has a policy of its own
    assert all(answer.headers.get_list("Referrer-Policy") == ["no-referrer"] for answer in answers)
    assert refused.lower().count(b"referrer-policy: no-referrer") == 1
    assert '"GET /apply HTTP/1.1" 200' in logged
    assert "Connection refused" in logged
    assert SECRET not in logged


@needs_nginx
async def test_nginx_passes_on_a_refusal_while_the_body_is_still_sent(gate):
    """The service closed the connection while nginx was sending, and nginx responded 502."""
    head = b"POST /candidates HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1;" + b"e" * 1000 + b"\r\na\r\n"  # nginx reads and forwards a few at a time

    answer = await send(gate.port, head + chunk * 5000 + b"0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b":body-too-large" in answer
    assert "while sending request to upstream" not in gate.errors


@needs_nginx
async def test_nginx_leaves_the_policy_of_pages_with_forms(nginx):
    assert (await nginx.get("/apply")).headers.get_list("Referrer-Policy") == ["same-origin"]


@needs_nginx
async def test_nginx_compresses_pages_and_leaves_the_entity_tags_of_json(nginx, registration):
    page = await nginx.get("/apply")
    [style] = re.findall(r'href="(/static/applicants[^"]+)"', page.text)
    json = await nginx.post("/candidates", json=registration(company_name="x" * 200))

    assert page.headers["Content-Encoding"] == (await nginx.get(style)).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in json.headers
    assert json.headers["ETag"] == '"1"'


@needs_nginx
async def test_an_unread_response_fills_no_disk(tmp_path):
    sent = 0

    async def answer(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"x" * 2**20)
                await writer.drain()
                sent += 2**20
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as upstream:
        url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        async with composed(url, tmp_path) as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, limit=2**16)
            writer.write(b"GET /candidates HTTP/1.1\r\nHost: example.com\r\n\r\n")
            await reader.readline()
            before = -1
            while sent != before:  # until nothing is sent any more
                before = sent
                await asyncio.sleep(0.5)
            writer.close()

    assert sent < 32 * 2**20, "nginx took it all, and put it on disk"


@needs_nginx
async def test_the_documented_gateway_hides_health_and_logs_no_secret(tmp_path):
    [block] = [block.text for block in section("DEPLOYMENT.md", "Behind a gateway").blocks if block.language == "nginx"]
    dead = block.replace("http://127.0.0.1:5004", f"http://127.0.0.1:{a_port()}")
    zone, _, others = dead.partition("\n")
    server = f"access_log /var/log/nginx/access.log; {zone}\n server {{ listen 8080; {others} }}"

    async with gateway(server, tmp_path) as gate:
        hidden = {(await gate.client.get(f"/registry{path}")).status_code for path in ("/health", "/health/ready")}
        passed_on = await gate.client.get("/registry/apply")
        page = await gate.client.get(f"/registry/applications/{SECRET}")

    assert hidden == {404}
    assert passed_on.status_code == page.status_code == 502
    assert page.headers.get_list("Referrer-Policy") == ["no-referrer"]
    assert "/registry/apply" in gate.accesses
    assert "/registry/apply" in gate.errors
    assert SECRET not in gate.accesses + gate.errors
