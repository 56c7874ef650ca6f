"""Companies that may be the same, on a candidate's page and before its approval."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import expect

from .test_every_page import WIDE, overflow

SCREENSHOTS = os.environ.get("SCREENSHOTS")
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("step", ["", "/approve"])
async def test_similar_companies_are_shown_with_their_decision(signed_in, register, service, step, viewport):
    name = f"Obsthof {uuid4().hex}"
    earlier = await register(company_name=f"{name} GmbH", contact_email=f"info@{uuid4().hex}.example")
    candidate = await register(company_name=name, contact_email=f"info@{uuid4().hex}.example")
    async with signed_in(viewport=viewport) as page:
        await page.goto(f"/admin/candidates/{earlier['candidate_id']}/reject")
        await page.get_by_role("textbox").first.fill("No cold chain")
        await page.get_by_role("button", name="Reject").click()
        box = page.get_by_role("region", name="Perhaps the same company")
        async with asyncio.timeout(20):
            while True:  # until a background task has filled the keys
                await page.goto(f"/admin/candidates/{candidate['candidate_id']}{step}")
                if await box.is_visible() and await box.get_by_text(f"{name} GmbH").is_visible():
                    break
                await asyncio.sleep(0.1)

        other = box.get_by_role("listitem").filter(has_text=f"{name} GmbH")
        await expect(other).to_contain_text("Rejected")
        await expect(other).to_contain_text("No cold chain")
        assert await overflow(page) == 0
        if SCREENSHOTS:
            kind = "phone" if viewport == PHONE else "wide"
            await page.screenshot(
                path=Path(SCREENSHOTS) / f"similar{step.replace('/', '-')}-{kind}.png", full_page=True
            )
        await other.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"{name} GmbH")
