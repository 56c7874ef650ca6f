"""deploy/systemd: units are valid and sandbox the service, and the backup reports its time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provider_registration.settings import Settings
from tests.documents.markdown import section

from .deployed import ROOT

FOLDER = ROOT / "deploy/systemd"
SERVICE = FOLDER / "provider-registration.service"
BACKUP = FOLDER / "provider-registration-backup"
UNITS = [SERVICE, FOLDER / "provider-registration-backup.service", FOLDER / "provider-registration-backup.timer"]
METRIC = "provider_registration_last_backup_timestamp_seconds"
# What the units run, where this machine has it.
PLACES = {
    "/opt/provider-registration/bin": str(Path(sys.executable).parent),
    "/usr/local/sbin/provider-registration-backup": str(BACKUP),
}
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed (Debian: apt install systemd)")


def analyze(*arguments):
    done = subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def units(tmp_path):
    """Copies whose programs are on this machine."""
    for unit in UNITS:
        text = unit.read_text()
        for theirs, ours in PLACES.items():
            text = text.replace(theirs, ours)
        (tmp_path / unit.name).write_text(text)
    return [tmp_path / unit.name for unit in UNITS]


@needs_systemd
def test_systemd_takes_the_units(units):
    assert analyze("verify", *units) == (0, "")


@needs_systemd
def test_systemd_would_find_a_mistake(units):
    units[0].write_text(units[0].read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))

    assert "NoNewPrivilege" in analyze("verify", *units)[1]


@needs_systemd
@pytest.mark.parametrize(("unit", "tenths"), [(UNITS[0], 14), (UNITS[1], 25)], ids=["service", "backup"])
def test_a_unit_is_not_more_exposed_than_it_has_to_be(unit, tenths):
    code, shown = analyze("security", "--offline=true", "--no-pager", f"--threshold={tenths}", unit)

    assert code == 0, shown.splitlines()[-1]


def test_every_secret_is_a_credential_and_every_credential_a_setting():
    text = SERVICE.read_text()
    credentials = dict(re.findall(r"(?m)^LoadCredential=(\w+):(\S+)$", text))
    settings = dict(re.findall(r"(?m)^Environment=(\w+)_FILE=%d/(\w+)$", text))

    assert settings == {name: name for name in credentials}
    assert {name.lower() for name in settings} <= Settings.model_fields.keys()
    assert all(path == f"/etc/provider-registration/secrets/{name}" for name, path in credentials.items())
    assert len(re.findall(r"(?m)^Environment=", text)) == len(settings)


def test_the_units_run_what_the_document_puts_there():
    text = section("DEPLOYMENT.md", "With systemd").text + section("DEPLOYMENT.md", "Backups").text

    for unit in UNITS:
        assert unit.stem in text
        for path in re.findall(r"(?m)^(?:Exec\w+=[-!]?|EnvironmentFile=|WorkingDirectory=)(/[^\s]+)", unit.read_text()):
            place = path.removesuffix("/bin/provider-registration")
            assert place.rpartition("/")[0] in text, path


def make_backup(tmp_path, day, status, *arguments):
    """Run the script with another date and a pgBackRest that only records its arguments."""
    for name, lines in {"pgbackrest": f'echo "$@" > {tmp_path}/called; exit {status}', "date": f"echo {day}"}.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run([BACKUP, *arguments], env=environment, check=False).returncode


@pytest.mark.parametrize(("day", "kind"), [(1, "diff"), (6, "diff"), (7, "full")])
@pytest.mark.parametrize("status", [0, 1])
def test_a_backup_is_full_on_sundays_and_fails_as_pgbackrest_does(tmp_path, day, kind, status):
    assert make_backup(tmp_path, day, status, "make") == status
    assert (tmp_path / "called").read_text() == f"--stanza=main --type={kind} backup\n"


def test_node_exporter_gets_the_time_of_the_backup(tmp_path):
    file = tmp_path / "provider_registration_backup.prom"
    before = int(time.time())

    subprocess.run([BACKUP, "record", file], check=True)

    [family] = text_string_to_metric_families(file.read_text())
    assert (family.name, family.type) == (METRIC, "gauge")
    assert before <= family.samples[0].value <= time.time()
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_failed_backup_reports_no_time():
    [make, tell] = re.findall(r"(?m)^Exec\w+=.+$", UNITS[1].read_text())

    # systemd runs ExecStartPost only when ExecStart succeeded.
    assert make == "ExecStart=/usr/local/sbin/provider-registration-backup make"
    assert re.match(r"ExecStartPost=!/usr/local/sbin/provider-registration-backup record /\S+\.prom$", tell)
