"""What `serve` logs at its start, and restricted environments in which it still starts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provider_registration import __version__
from provider_registration.db import migrations
from provider_registration.observability.metrics import MULTIPROCESS_FOLDER
from provider_registration.serving import SHARED_MEMORY

from .test_workers import OPEN, WORKERS, all_are_up, eventually, live, metrics, workers_of

# What a container with a read-only root file system has: nothing that can be written but shared memory.
READ_ONLY = """
    for folder in /tmp /var/tmp "$PWD"; do mount --bind "$folder" "$folder"; mount -o remount,bind,ro "$folder"; done
    mount -o remount,bind,ro /
"""
NO_SHARED_MEMORY = "mount -t tmpfs -o ro none /dev/shm\n"
UNSHARE = ("unshare", "--mount", *(() if os.getuid() == 0 else ("--user", "--map-root-user")))

in_a_namespace = pytest.mark.skipif(
    subprocess.run([*UNSHARE, "sh", "-ec", READ_ONLY], check=False, capture_output=True, cwd="/var").returncode != 0,
    reason="the kernel gives this user no mount namespace",
)


def inside(script):
    """Run a command in its own mount namespace, after a script that changes it."""
    return (*UNSHARE, "sh", "-ec", f'{script} exec "$@"', "sh")


async def test_what_is_wrong_around_it_is_logged_and_it_starts(serving, environment, empty_database_url, tmp_path):
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "014_search_indexes")
    wrong = {
        "DATABASE_URL": empty_database_url,
        "DATABASE_POOLSIZE": "hunter2",
        "RATE_LIMIT_STORAGE_URL": "redis://127.0.0.1:1",
    }
    async with serving(environment | wrong, tmp_path) as process:

        async def all_are_said():
            said = {line["message"].partition(":")[0]: line for line in process.lines() if line["level"] == "WARNING"}
            return {"settings", "schema", "role", "redis"} <= set(said)

        await eventually(all_are_said)
        text = process.log.read_text()

    assert "DATABASE_POOLSIZE is not a setting" in text
    assert "014_search_indexes" in text
    assert "hunter2" not in text


async def test_a_start_where_all_is_well_warns_of_nothing_and_tells_its_commit(
    serving, environment, migrated_database_url, tmp_path
):
    # Read when the program is loaded.
    async with serving(environment | OPEN, tmp_path, inside=("env", "SOURCE_COMMIT=0badcafe")) as process:
        lines, told = process.lines(), await metrics(process.url)

    assert told["provider_service_build_info", *sorted((__version__, "0badcafe"))] == 1
    assert {line["message"].partition(":")[0] for line in lines if line["level"] != "INFO"} <= {"role", "LC_CTYPE"}


def metrics_folder_of(pid):
    variables = dict(each.partition("=")[::2] for each in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return Path(variables[MULTIPROCESS_FOLDER])


@in_a_namespace
async def test_several_workers_start_where_nothing_but_shared_memory_can_be_written(serving, environment, tmp_path):
    async with serving(environment | OPEN, tmp_path, "--workers", str(WORKERS), inside=inside(READ_ONLY)) as process:
        await eventually(lambda: all_are_up(process))
        await live(process.url, 5)
        counted = await metrics(process.url)
        folders = [metrics_folder_of(pid) for pid in workers_of(process.pid)]

    assert counted["provider_service_requests_total", "/health/live", "200", "GET"] >= 5
    assert {str(folder.parent) for folder in folders} == {SHARED_MEMORY}
    assert not any(folder.exists() for folder in folders)


@in_a_namespace
def test_several_workers_where_nothing_can_be_written_are_refused_in_a_sentence(environment, tmp_path):
    command = (sys.executable, "-m", "provider_registration", "serve", "--workers", "2")
    finished = subprocess.run(
        [*inside(NO_SHARED_MEMORY + READ_ONLY), *command],
        env={**os.environ, **environment, "LOG_LEVEL": "ERROR"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: Several workers need a folder")
    assert "--tmpfs /tmp" in finished.stderr
    assert "\n" not in finished.stderr.strip()
