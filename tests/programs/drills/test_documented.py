"""The drills take settings and commands from the documents: these exist, and the programs accept them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.documents.markdown import section

from .debian_cluster import DOCUMENTED_DATA, DOCUMENTED_MOMENT, documented_backups, documented_restore
from .gateway import configuration as gateway_configuration
from .patroni import haproxy_configuration, patroni_settings
from .programs import PATH

PORTS = [20_001, 20_002]


def check(*command):
    """Let a program check its configuration, if it is installed."""
    if shutil.which(command[0], path=PATH) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        command, env={"PATH": PATH}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_backups_are_documented_as_the_drill_makes_them():
    settings, configuration, commands = documented_backups()

    assert "archive_command" in settings
    assert f"pg1-path={DOCUMENTED_DATA}" in configuration
    assert commands.splitlines()[-1].endswith("backup")


def test_restores_are_documented_as_the_drill_makes_them():
    newest, to_a_moment, recount, back_up, end_sessions = documented_restore()

    assert DOCUMENTED_DATA in newest
    assert len(DOCUMENTED_MOMENT.findall(to_a_moment)) == 1
    assert "recount" in recount
    assert "end-sessions" in end_sessions
    assert back_up.endswith("backup")
    blocks = section("OPERATIONS.md", "Billing has providers that the database lacks").blocks
    assert len([block for block in blocks if block.text.startswith("INSERT")]) == 1


def test_nginx_understands_what_is_documented(tmp_path):
    file = tmp_path / "nginx.conf"
    file.write_text(gateway_configuration(PORTS, left_out={PORTS[0]}, port=20_003))

    checked = check("nginx", "-p", tmp_path, "-c", file, "-e", "stderr", "-t")

    assert f"server 127.0.0.1:{PORTS[0]} down;" in file.read_text()
    assert checked.returncode == 0, checked.stdout


def test_haproxy_understands_what_is_documented(tmp_path):
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy_configuration(20_003, 20_004, {"one": (20_001, 20_011), "two": (1, 2), "three": (3, 4)}))

    checked = check("haproxy", "-c", "-f", file)

    assert "server one 127.0.0.1:20001 port 20011" in file.read_text()
    assert checked.returncode == 0, checked.stdout


def test_no_acknowledged_write_is_on_one_server_alone():
    dcs = patroni_settings()["bootstrap"]["dcs"]

    assert dcs["synchronous_mode"] is True
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"], "Patroni would correct it"
