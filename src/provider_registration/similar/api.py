"""The route that lists similar companies."""

from __future__ import annotations

from fastapi import APIRouter

from provider_registration.auth.dependencies import StaffDep
from provider_registration.candidates.dependencies import CandidateId, CandidateServiceDep
from provider_registration.candidates.errors import CandidateNotFound
from provider_registration.candidates.links import CANDIDATES
from provider_registration.similar.dependencies import SimilarServiceDep
from provider_registration.similar.schemas import EXAMPLE_SIMILAR, SimilarListResponse, SimilarResponse
from provider_registration.web.openapi import EXAMPLE_ID, refuses, success
from provider_registration.web.routing import Route

router = APIRouter(tags=["candidates"], route_class=Route)


@router.get(
    f"{CANDIDATES}/{{candidate_id}}/similar",
    summary="List similar companies",
    responses=success(200, "At most 20 candidates, the likeliest first", EXAMPLE_SIMILAR),
)
@refuses(CandidateNotFound(EXAMPLE_ID))
async def list_similar_candidates(
    candidate_id: CandidateId, candidates: CandidateServiceDep, service: SimilarServiceDep, _user: StaffDep
) -> SimilarListResponse:
    """List candidates that may be the same company: with nearly the same name, or the same domain or number."""
    similar = await service.similar_to(await candidates.browsing.candidate(candidate_id))
    return SimilarListResponse(similar=[SimilarResponse.model_validate(one) for one in similar])
