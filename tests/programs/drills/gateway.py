"""nginx in front of several processes of the service, configured as in DEPLOYMENT.md."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tests.documents.markdown import section
from tests.ports import a_port

from .programs import Program

DOCUMENTED_SERVERS = ("server 10.0.0.11:5004;", "server 10.0.0.12:5004;")
CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            {location}
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_read_timeout 60s;
        }}
    }}
}}
"""


class Gateway:
    """nginx in its own folder; each process of the service has a port behind it."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder = folder
        self._ports = ports
        self._port = a_port()
        folder.mkdir()
        self._write(())
        self._nginx = Program([*self._command, "-e", "stderr"], folder / "log")

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"http://127.0.0.1:{self._port}"

    def leave_out(self, ports: Collection[int]) -> None:
        """Send new requests to the other processes; running ones end where they are."""
        self._write(ports)
        Program([*self._command, "-e", "stderr", "-s", "reload"], self._folder / "log").wait()

    def stop(self) -> None:
        """End it."""
        self._nginx.stop()

    @property
    def _command(self) -> list[str | Path]:
        return ["nginx", "-p", self._folder, "-c", self._folder / "nginx.conf"]

    def _write(self, left_out: Collection[int]) -> None:
        text = configuration(self._ports, left_out=left_out, port=self._port)
        (self._folder / "nginx.conf").write_text(text)


def configuration(ports: Sequence[int], *, left_out: Collection[int], port: int) -> str:
    """The documented lines for processes at these ports, with what else a whole file needs."""
    blocks = section("DEPLOYMENT.md", "Upgrade").blocks
    upstream, location = (block.text for block in blocks if block.language == "nginx")
    first, second = DOCUMENTED_SERVERS
    assert first in upstream, "the document names other servers"
    servers = (f"server 127.0.0.1:{one}{' down' * (one in left_out)};" for one in ports)
    upstream = upstream.replace(second, "").replace(first, "\n".join(servers))
    user = "user root;" if os.geteuid() == 0 else ""
    return CONFIGURATION.format(user=user, upstream=upstream, location=location, port=port)
