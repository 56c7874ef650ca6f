"""`run` catches e-mails: a newcomer applies, opens the link, decides, and sees the decision's e-mail."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from tests.service import a_registration

from .test_run import FIRST_PASSWORD, Runner, runner_in_new_folder, stop

WITHIN = 30  # seconds


@pytest.fixture
def runner(fork_server):
    with runner_in_new_folder(fork_server) as runner:
        yield runner


def _mails(url, to, count):
    ends = time.monotonic() + WITHIN
    while time.monotonic() < ends:
        mails = httpx.get(f"{url}/sandbox/mails", params={"to": to}).json()["mails"]
        if len(mails) == count:
            return mails
        time.sleep(0.1)
    raise AssertionError(f"{count} mails never came")


def test_the_whole_loop(runner: Runner) -> None:
    process = runner.start()
    api, sandbox = runner.url(""), f"http://127.0.0.1:{runner.port + 1}"
    company = a_registration(language="es")
    candidate = httpx.post(f"{api}/candidates", json=company).json()

    [received] = _mails(sandbox, company["contact_email"], 1)
    link = re.search(r"http://\S+/applications/\S+", received["text"])[0]
    assert link.startswith(f"{api}/applications/")
    assert company["company_name"] in httpx.get(link).text

    headers = {"Authorization": f"Bearer {runner.token(FIRST_PASSWORD)}"}
    url = f"{api}/candidates/{candidate['candidate_id']}/approve"
    assert httpx.post(url, headers=headers, timeout=WITHIN).status_code == 200

    [_, approved] = _mails(sandbox, company["contact_email"], 2)
    assert approved["headers"]["Subject"] == "Su solicitud ha sido aceptada"
    assert f"{sandbox}/mails" in stop(process)
