"""Build the image without an image registry, and start it as its user, read-only: `-m tests.programs.drills.image`.

The Dockerfile's base image is built here: Debian from this machine's mirror, with the Python version that the
Dockerfile names if this machine has it, else Debian's own. Everything else is done as an operator does it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from provider_registration.local.postgres import PrivatePostgres
from tests.documents.markdown import ROOT
from tests.ports import a_port

from .programs import PATH, Program, descendants, run_drill, tell, temporary_folder
from .report import Report

IMAGE = "provider-registration:drill"
BASE = re.compile(r"(?m)^FROM (python:(\d+\.\d+)-slim-(\w+))")
# What a Python built elsewhere is linked against.
LIBRARIES = "ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,zlib1g"
DEBIANS_PYTHON = "python3-pip,python3-venv"
NOT_NEEDED = shutil.ignore_patterns("test", "tests", "site-packages", "__pycache__", "idlelib", "*.a", "config-*")
# How this machine reaches its package index: only the base image gets it, for the build.
FOR_THE_BUILD = re.compile(r"(?i)(PIP_|UV_|SSL_CERT_|REQUESTS_CA_BUNDLE$|(https?|no|all)_proxy$)")
FILES_FOR_THE_BUILD = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/uv", "/root/.config/pip", "/root/.config/uv")
# A container as `docker run --read-only` sets it up; the rest of the image cannot be written to.
CONTAINER = """
set -euo pipefail
root=$1 tmpfs=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,noexec,size=1m tmpfs "$root/dev"
for device in null zero full random urandom; do
  touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"; mount -t tmpfs -o nosuid,nodev,noexec,size=64m tmpfs "$root/dev/shm"
mount -o remount,ro "$root/dev"
if [ -n "$tmpfs" ]; then mount -t tmpfs -o nosuid,nodev,noexec tmpfs "$root$tmpfs"; fi
exec chroot "$root" "$@"
"""
WRITES = (
    "import os, pathlib\n"
    "assert os.getuid() == os.getgid() == 10001, os.getuid()\n"
    "assert int(dict(l.split(':', 1) for l in open('/proc/self/status'))['CapBnd'], 16) == 0\n"
    "for folder in ('/', '/app', '/venv', '/etc', '/var/tmp', '/tmp'):\n"
    "    try: pathlib.Path(folder, 'written').touch()\n"
    "    except OSError as error: print(folder, error.strerror)\n"
    "    else: print(folder, 'written')\n"
)
START_SECONDS, LARGEST_MIB = 60.0, 200.0
COLUMNS = ("what", "figure")


class Buildah:
    """buildah with its own storage, which is deleted with its folder."""

    def __init__(self, folder: Path) -> None:
        self._storage = ("--root", folder / "storage", "--runroot", folder / "run", "--log-level", "error")

    def __call__(self, *arguments: str | Path) -> str:
        """Run it; return its output."""
        known = {name: value for name, value in os.environ.items() if name in ("HOME", "TMPDIR")}
        return run("buildah", arguments[0], *self._storage, *arguments[1:], environment=known)

    @contextmanager
    def mounted(self, image: str) -> Iterator[tuple[str, Path]]:
        """A container of an image, and the folder where its files are."""
        container = self("from", "--pull-never", image)
        try:
            yield container, Path(self("mount", container))
        finally:
            self("rm", container)

    def build(self, base: str) -> None:
        """Build the Dockerfile as `docker build` does, a layer for each instruction."""
        volumes = [f"--volume={path}:{path}:ro" for path in FILES_FOR_THE_BUILD if Path(path).exists()]
        options = ("--isolation", "chroot", "--layers", "--pull-never", "--format", "docker")
        assert base in self("images", "--format", "{{.Name}}:{{.Tag}}")
        self("bud", *options, *volumes, "--tag", IMAGE, ROOT)

    def inspect(self) -> dict[str, object]:
        """The configuration of the image."""
        shown: dict[str, object] = json.loads(self("inspect", "--type", "image", IMAGE))
        return shown

    def size(self, image: str) -> int:
        """Bytes of an image's files."""
        with self.mounted(image) as (_, root):
            return int(run("du", "--bytes", "--summarize", "--one-file-system", root).split()[0])

    def clear(self) -> None:
        """Unmount and remove everything."""
        self("rm", "--all")
        self("rmi", "--all", "--force")


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; return its output."""
    done = subprocess.run(
        command,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"status {done.returncode} of {command[0]} {command[1]}:\n{done.stdout}{done.stderr}"[-4000:]
        )
    return done.stdout.strip()


def mirror(codename: str) -> str:
    """The mirror from which this machine gets a Debian release."""
    shown = run("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Identifier: Packages")
    found = [line.split()[2] for line in shown.splitlines() if line.startswith(f"{codename} main ")]
    if not found:
        sys.exit(f"This machine's apt knows no source of Debian {codename}, or has not read it: apt-get update")
    return found[0]


def prefix_of(version: str) -> Path | None:
    """The folder of a Python that can be copied from this machine."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = (shutil.which(f"python{version}"), *sorted(versions.glob(f"{version}.*/bin/python{version}"), reverse=True))
    for python in filter(None, found):
        asked = subprocess.run(
            [python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=False
        )
        prefix = Path(asked.stdout.strip())
        if asked.returncode == 0 and prefix != Path("/usr"):
            return prefix
    return None


def put_python(root: Path, version: str, prefix: Path | None) -> str:
    """Put `python` and `pip` into /usr/local/bin, as in the image that the Dockerfile names; return the version."""
    local = root / "usr/local"
    if prefix is None:
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (local / "bin/python").symlink_to("/usr/bin/python3")
    else:
        shutil.copytree(prefix / f"lib/python{version}", local / f"lib/python{version}", ignore=NOT_NEEDED)
        shutil.copy2(prefix / f"bin/python{version}", local / "bin")
        for library in prefix.glob(f"lib/libpython{version}.so.*"):
            shutil.copy2(library, local / "lib")
        for name in ("python", "python3"):
            (local / "bin" / name).symlink_to(f"python{version}")
        run("chroot", root, "ldconfig")
        run("chroot", root, "/usr/local/bin/python", "-m", "ensurepip", "--default-pip")
    return run("chroot", root, "/usr/local/bin/python", "-c", "import platform; print(platform.python_version())")


def make_base(buildah: Buildah) -> tuple[str, str]:
    """Create the Dockerfile's base image under its name; return the name and the version of its Python."""
    name, version, codename = BASE.findall((ROOT / "Dockerfile").read_text())[0]
    prefix = prefix_of(version)
    included = LIBRARIES if prefix else f"{LIBRARIES},{DEBIANS_PYTHON}"
    with buildah.mounted("scratch") as (container, root):
        run("debootstrap", "--variant=minbase", f"--include={included}", codename, root, mirror(codename))
        found = put_python(root, version, prefix)
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / folder)
        given = [f"--env={name}={value}" for name, value in os.environ.items() if FOR_THE_BUILD.match(name)]
        buildah("config", f"--env=PATH=/usr/local/bin:{PATH}", *given, container)
        buildah("commit", "--format", "docker", container, name)
    return name, found


@dataclass(frozen=True)
class Container:
    """The image as it is started: with its own configuration and only these variables."""

    root: Path
    user: str
    folder: str
    variables: Mapping[str, str]
    command: Sequence[str]

    @classmethod
    def of(cls, inspected: dict[str, object], root: Path) -> Container:
        """The configuration of an image."""
        config = inspected["OCIv1"]["config"]
        variables = dict(one.split("=", 1) for one in config["Env"])
        variables = {name: value for name, value in variables.items() if not FOR_THE_BUILD.match(name)}
        return cls(root, config["User"], config["WorkingDir"], variables, config["Cmd"])

    def start(self, log: Path, *command: str, tmpfs: str = "", **variables: str) -> Program:
        """Start a command, or the image's default one."""
        uid, gid = self.user.split(":")
        given = [f"{name}={value}" for name, value in {**self.variables, **variables}.items()]
        return Program(
            [
                *("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"),
                *("bash", "-c", CONTAINER, "container", self.root, tmpfs),
                *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
                *("--bounding-set=-all", "--inh-caps=-all"),
                *("env", "--ignore-environment", f"--chdir={self.folder}", *given, *(command or self.command)),
            ],
            log,
        )

    async def finish(self, log: Path, *command: str, **variables: str) -> str:
        """Run a command to its end; return its output."""
        process = self.start(log, *command, **variables)
        await asyncio.to_thread(process.wait)
        return process.tail()


async def drill(_options: Namespace) -> bool:
    """Build and start; return whether every promise was kept."""
    report = Report(COLUMNS)
    with temporary_folder("image") as folder:
        buildah = Buildah(folder)
        try:
            tell("making a base image from Debian's packages")
            begun = time.monotonic()
            base, python = await asyncio.to_thread(make_base, buildah)
            report.add("seconds to make the base image", time.monotonic() - begun)
            tell("building the image")
            begun = time.monotonic()
            await asyncio.to_thread(buildah.build, base)
            report.add("seconds to build the image", time.monotonic() - begun)
            measure(report, buildah, base)
            with buildah.mounted(IMAGE) as (_, root), report.failures(lambda: logs(folder)):
                await start(report, Container.of(buildah.inspect(), root), folder)
        finally:
            await asyncio.to_thread(buildah.clear)
    return report.show(f"Python {python} on Debian's packages")


def measure(report: Report, buildah: Buildah, base: str) -> None:
    """How large the image is."""
    layers = len(buildah.inspect()["OCIv1"]["rootfs"]["diff_ids"])
    mib = (buildah.size(IMAGE) - buildah.size(base)) / 2**20
    report.add("MiB added to the base image", mib)
    report.add("layers, including that of the base image", layers)
    report.at_most(mib, LARGEST_MIB, "MiB added to the base image")


def logs(folder: Path) -> list[str]:
    """The ends of what the containers logged."""
    return [f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(folder.glob("*.log"))]


async def start(report: Report, container: Container, folder: Path) -> None:
    """Migrate from the image, and serve with one process and with two."""
    written = await container.finish(folder / "writes.log", "python", "-c", WRITES)
    report.promise(written.count("Read-only file system") == 6, f"the image's files can be written to: {written}")
    server = PrivatePostgres(folder / "postgres", port=a_port())
    owner_url = await asyncio.to_thread(server.start)
    try:
        service_url = await make_role(owner_url)
        migrate = ("provider-registration", "migrate", "--grant-to", "provider_registration_api")
        printed = await container.finish(folder / "migrate.log", *migrate, DATABASE_URL=owner_url)
        report.promise("has the privileges that the service needs" in printed, f"the image does not migrate: {printed}")
        for workers, tmpfs in ((1, ""), (2, "/tmp")):  # noqa: S108 - of the container
            tell(f"serving with {workers}")
            seconds, serving = await serve(container, folder, workers, tmpfs, service_url)
            report.add(f"seconds until it is ready, workers: {workers}", seconds)
            report.promise(serving == {10001}, f"it serves as {serving}")
    finally:
        await asyncio.to_thread(server.stop)


async def serve(
    container: Container, folder: Path, workers: int, tmpfs: str, database_url: str
) -> tuple[float, set[int]]:
    """Serve until a registration succeeds; return the seconds until ready, and the processes."""
    port = a_port()
    process = container.start(
        folder / f"workers-{workers}.log",
        *("provider-registration", "serve", "--workers", str(workers)) if workers > 1 else (),
        tmpfs=tmpfs,
        DATABASE_URL=database_url,
        JWT_SECRET_KEY=secrets.token_hex(32),
        BILLING_SERVICE_URL="http://127.0.0.1:1",
        APP_PORT=str(port),
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            seconds = await until_ready(client, process)
            company = {
                "company_name": "Obsthof",
                "contact_email": f"{port}@obsthof.example",
                "products": ["apples"],
                "truck_count": 1,
                "capacity_tons_per_day": 1,
            }
            (await client.post("/candidates", json=company)).raise_for_status()
        return seconds, owners(process.pid)
    finally:
        await asyncio.to_thread(process.kill)


async def until_ready(client: httpx.AsyncClient, process: Program) -> float:
    """Seconds until it responds and has its database."""
    begun = time.monotonic()
    async with asyncio.timeout(START_SECONDS):
        while True:
            assert process.is_alive, process.tail()
            try:
                if (await client.get("/health/ready", timeout=2)).is_success:
                    return time.monotonic() - begun
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


def owners(pid: int) -> set[int]:
    """Users of the image's Python processes below a process."""
    found = set()
    for one in descendants(pid):
        process = Path(f"/proc/{one}")
        if b"provider-registration" in (process / "cmdline").read_bytes() and (process / "root").readlink() != Path(
            "/"
        ):
            found.add(process.stat().st_uid)
    return found


async def make_role(owner_url: str) -> str:
    """Create the serving role; return its URL."""
    password = secrets.token_hex(16)
    connection = await asyncpg.connect(owner_url)
    try:
        await connection.execute(f"CREATE ROLE provider_registration_api LOGIN PASSWORD '{password}'")
    finally:
        await connection.close()
    parts = urlsplit(owner_url)
    return parts._replace(netloc=f"provider_registration_api:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


def main() -> None:
    """Read the command line and run."""
    if os.geteuid() != 0:
        sys.exit("Run this drill as root: it mounts the image's files.")
    parser = ArgumentParser(description="Build the image without a registry and start it read-only as its own user.")
    run_drill(drill, parser, "buildah", "debootstrap")


if __name__ == "__main__":
    main()
