"""The route of lost links; it exists only if e-mails with links can be sent."""

from __future__ import annotations

from fastapi import APIRouter, status

from provider_registration.candidates.company import EXAMPLE
from provider_registration.candidates.links import APPLICATIONS
from provider_registration.notifications.dependencies import LostLinkBody, LostLinksDep
from provider_registration.notifications.schemas import LostLinkRequest, LostLinkResponse
from provider_registration.web.openapi import refuses, request_body, success
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route

router = APIRouter(prefix=APPLICATIONS, tags=["candidates"], route_class=Route)

SENT = "If there is an application with this e-mail address, a new link is being sent to that address."


@router.post(
    "/lost",
    summary="Request a new link to a status page",
    status_code=status.HTTP_202_ACCEPTED,
    responses=success(202, "The same response for every e-mail address, after the same time", {"detail": SENT}),
    openapi_extra=request_body(
        (
            "application/json",
            LostLinkRequest,
            {"The e-mail address of the application": {"contact_email": EXAMPLE["contact_email"]}},
        )
    ),
)
@refuses(InvalidRequest.at("body", "contact_email", "Input should be an e-mail address"))
async def request_lost_link(body: LostLinkBody, lost: LostLinksDep) -> LostLinkResponse:
    """Send a new link to the e-mail address of an application. Open to everyone; the newest others still work."""
    await lost.request(body.contact_email)
    return LostLinkResponse(detail=SENT)
