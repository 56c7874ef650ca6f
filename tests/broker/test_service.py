"""A running service publishes what happens, and one without a broker does not load its client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import httpx

from tests.nats_server import Nats
from tests.service import a_registration, make_settings


async def test_a_registration_is_published_once_there_is_a_stream(own_database_url, run_service, tmp_path, caplog):
    nats = Nats(tmp_path)
    settings = make_settings(
        own_database_url,
        "http://127.0.0.1:1",
        events_nats_url=nats.url,
        public_url="https://supply.example",
        metrics_access="anyone",
    )
    nats.start()
    try:
        async with run_service(settings) as service, httpx.AsyncClient(base_url=service.url) as client:
            async with asyncio.timeout(30):
                while "events cannot be published" not in caplog.messages:
                    response = await client.post("/candidates", json=a_registration())
                    await asyncio.sleep(0.5)
                await nats.add_stream()
                candidate_id = response.json()["candidate_id"]
                while candidate_id not in [json.loads(each.data)["subject"] for each in await nats.stored()]:
                    await asyncio.sleep(0.1)
            published = json.loads((await nats.stored())[0].data)
            metrics = (await client.get("/metrics")).text
    finally:
        nats.stop()

    assert published["source"] == "https://supply.example"
    assert "no stream" in next(record.reason for record in caplog.records if hasattr(record, "reason"))
    assert "provider_service_events_published_total" in metrics


def test_without_a_broker_its_client_is_not_loaded():
    program = "import sys, provider_registration.app, provider_registration.cli; sys.exit('nats' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
