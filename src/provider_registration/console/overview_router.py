"""The front page: how things stand."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from provider_registration.approvals.models import ApprovalEvent
from provider_registration.console import paths
from provider_registration.console.charts import daily_plot, share
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.console.navigation import own_page
from provider_registration.pages.router import RendererDep
from provider_registration.statistics.dependencies import StatisticsServiceDep
from provider_registration.statistics.service import DAYS

router = APIRouter(include_in_schema=False)

# How approvals can end, or stay, in words; what merely began one is none of them.
OUTCOMES = {
    ApprovalEvent.APPROVED: ("Approved", "good"),
    ApprovalEvent.LINKED: ("Linked by hand", "good"),
    ApprovalEvent.FAILED: ("Failed", "bad"),
    ApprovalEvent.IN_DOUBT: ("In doubt", "warn"),
    ApprovalEvent.LET_GO: ("Let go by hand", "muted"),
    ApprovalEvent.ORPHANED: ("Orphaned provider", "bad"),
}


@router.get(paths.HOME)
async def overview(
    signed_in: BrowserUserDep, statistics: StatisticsServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Who waits, what was decided, what is on offer."""
    found = await statistics.overview()
    return own_page(
        renderer,
        request,
        "overview.html",
        signed_in,
        overview=found,
        day_count=DAYS,
        registrations=daily_plot([(day.date, {"registered": day.registered}) for day in found.days]),
        decisions=daily_plot([(day.date, {"approved": day.approved, "rejected": day.rejected}) for day in found.days]),
        outcomes=[(*words, found.approvals.get(event, 0)) for event, words in OUTCOMES.items()],
        most_outcomes=max((found.approvals.get(event, 0) for event in OUTCOMES), default=0),
        most_tons=max(offer.tons_per_day for offer in found.offers),
        share=share,
    )
