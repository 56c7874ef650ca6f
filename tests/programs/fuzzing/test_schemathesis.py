"""Requests generated from the OpenAPI document: each response matches the document, and none is a 500."""

from __future__ import annotations

import random

import pytest

from .fuzzer import fuzz


async def test_requests_of_an_admin_get_documented_responses(stage, tmp_path):
    seed = random.getrandbits(32)

    verdict = await fuzz(stage, "admin", examples=1, seed=seed, folder=tmp_path)

    assert verdict.is_good, verdict.output
    assert verdict.cases > 250


@pytest.mark.asvs("V2.2.1")
async def test_anonymous_requests_get_documented_responses(stage, tmp_path):
    seed = random.getrandbits(32)

    verdict = await fuzz(stage, "nobody", examples=4, limits=False, seed=seed, folder=tmp_path)

    assert verdict.is_good, verdict.output
    assert verdict.cases > 100
