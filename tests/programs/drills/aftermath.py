"""After a restore, billing is ahead of the database: an operator and an admin follow OPERATIONS.md."""

from __future__ import annotations

from random import Random
from uuid import UUID

from tests.documents.markdown import section
from tests.programs.faults.invariants import Findings, examine
from tests.programs.faults.service_process import Replica
from tests.programs.faults.world import EMAIL, Candidate, World

from .debian_cluster import DebianCluster
from .traffic import Traffic, registration

DOCUMENTED_NAME = "Huerta del Sol S.L."
NAME_TAKEN = "provider-name-taken"
SWEPT_SECONDS = 120.0  # a lease of 30 s, and another attempt
READ_STANDING = """
    SELECT candidates.id, company_name, status, in_doubt_since IS NOT NULL AS in_doubt
    FROM candidates LEFT JOIN approval_intents ON candidate_id = candidates.id
    WHERE company_name = ANY($1::text[])
"""
COUNT_SWEPT = """
    SELECT count(DISTINCT candidate_id) AS swept
    FROM approval_events AS requested JOIN approval_events AS approved USING (candidate_id)
    WHERE candidate_id = ANY($1::uuid[])
      AND requested.event = 'requested' AND requested.at < to_timestamp($2)
      AND approved.event = 'approved' AND approved.at > to_timestamp($2)
"""


class Aftermath:
    """Repairs what a restore left, and counts the repairs."""

    def __init__(
        self,
        world: World,
        cluster: DebianCluster,
        replica: Replica,
        traffic: Traffic,
        *,
        honours_keys: bool,
        destroyed: float,
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._replica = replica
        self._names = traffic.names
        self._honours_keys = honours_keys
        self._destroyed = destroyed
        self._random = Random(0)  # noqa: S311 - no secret
        self.swept = 0
        self.linked = 0
        self.approved_again = 0
        self.registered_again = 0

    async def set_right(self) -> None:
        """Wait for the sweep, then check the providers in billing."""
        await self._world.log_in(self._replica)
        known = [Candidate(candidate_id, name) for candidate_id, name in self._names.items()]
        await self._world.until_count("in_doubt_since IS NULL", known, 0, SWEPT_SECONDS)
        [row] = await self._world.fetch(COUNT_SWEPT, [one.id for one in known], self._destroyed)
        self.swept = row["swept"]
        in_billing = await self._world.billing.provider_ids(set(self._names.values()))
        standing = {row["company_name"]: row for row in await self._world.fetch(READ_STANDING, list(in_billing))}
        for name, [provider_id] in in_billing.items():
            row = standing.get(name)
            if row is None:
                await self._register_again(name, provider_id)
            elif row["in_doubt"]:
                await self._link(Candidate(row["id"], name), provider_id)
            elif row["status"] == "pending":
                await self._approve_again(Candidate(row["id"], name), provider_id)

    async def examine(self) -> Findings:
        """Compare the service's records with billing's providers."""
        rows = await self._world.fetch(READ_STANDING, list(self._names.values()))
        return await examine(self._world, [Candidate(row["id"], row["company_name"]) for row in rows])

    async def _approve_again(self, candidate: Candidate, provider_id: int) -> None:
        response = await self._world.approve(self._replica, candidate)
        assert response is not None, "no response to an approval"
        if self._honours_keys:
            assert response.status_code == 200, response.text
            assert response.json()["provider_id"] == provider_id, "another provider than before the restore"
            self.approved_again += 1
        else:
            assert response.status_code == 409, response.text
            assert NAME_TAKEN in response.json()["type"], response.text
            await self._link_forgotten(candidate, provider_id)

    async def _register_again(self, name: str, provider_id: int) -> None:
        body = registration(name, self._random)
        response = await self._world.ask(self._replica, "POST", "/candidates", json=body)
        assert response is not None, "no response to a registration"
        assert response.status_code == 201, response.text
        await self._link_forgotten(Candidate(UUID(response.json()["candidate_id"]), name), provider_id)
        self.registered_again += 1

    async def _link_forgotten(self, candidate: Candidate, provider_id: int) -> None:
        """Put an approval in doubt that the database has forgotten, with the documented statement."""
        blocks = section("OPERATIONS.md", "Billing has providers that the database lacks").blocks
        [statement] = [block.text for block in blocks if block.text.startswith("INSERT")]
        assert EMAIL in statement, "the document names another admin"
        assert await self._cluster.execute(statement.replace(DOCUMENTED_NAME, candidate.name)) == "INSERT 0 1"
        await self._link(candidate, provider_id)

    async def _link(self, candidate: Candidate, provider_id: int) -> None:
        response = await self._world.resolve(self._replica, candidate, resolution="link", provider_id=provider_id)
        assert response is not None, "no response to a resolution"
        assert response.status_code == 200, response.text
        self.linked += 1
