"""Any actions of an admin in any order, with billing failures and crashes: each candidate gets one decision."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from provider_registration.privacy.errors import ApprovalUnfinishedError, PersonNotFound

from .invariants import READ_DECISIONS, READ_IN_DOUBT, Findings, conclude
from .kills import FAILPOINTS
from .recounts import add_to_counts, recount_at_once
from .service_process import Replica
from .world import LEASE_SECONDS, Answer, Candidate, Staff, World

STEPS = 18
ENDED_SECONDS = 1.5  # until a token of an erased user is refused everywhere: one second, plus a margin
SLOW_SECONDS = 0.3  # billing's delay while a candidate is decided in SQL
FAULTS = [
    *("none", "fail_500", "fail_503", "refuse_400", "hang", "reset"),
    *("commit_then_hang", "commit_then_500", "commit_then_reset", "broken_201", "wrong_name"),
]
Result = TypeVar("Result")


class Approvals(RuleBasedStateMachine):
    """The model: the known decisions, which never change."""

    world: ClassVar[World]
    loop: ClassVar[asyncio.AbstractEventLoop]
    honours_keys: ClassVar[bool]
    findings: ClassVar[Findings]

    candidates = Bundle("candidates")
    staff = Bundle("staff")

    def __init__(self) -> None:
        super().__init__()
        self.replica: Replica | None = None
        self.registered: list[Candidate] = []
        self.foreign: dict[str, int] = {}
        self.decided: dict[Candidate, str] = {}
        self.overruled: set[Candidate] = set()
        self.erased: set[Candidate | Staff] = set()

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run work in the event loop, from the state machine's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(180)

    async def service(self) -> Replica:
        """A replica that was alive recently."""
        if self.replica is not None and not self.replica.is_alive:
            await self.world.kill(self.replica)
            self.replica = None
        if self.replica is None:
            await self.world.billing.set(honour_idempotency_key=self.honours_keys)
            self.replica = await self.world.start()
            await self.world.log_in(self.replica)
        return self.replica

    @rule(target=candidates)
    def register(self) -> Candidate:
        """A company registers."""
        [candidate] = self.do(self.world.register())
        self.registered.append(candidate)
        return candidate

    @rule(target=candidates)
    def register_under_a_foreign_name(self) -> Candidate:
        """A company registers, and billing has another company's provider with its name."""
        candidate = self.register()
        self.foreign[candidate.name] = self.do(self.world.billing.plant(candidate.name))
        return candidate

    @rule(candidate=candidates, fault=st.sampled_from(FAULTS), times=st.integers(1, 3))
    def approve(self, candidate: Candidate, fault: str, times: int) -> None:
        """An admin approves, and billing may fail."""

        async def approve() -> Answer:
            replica = await self.service()
            await self.world.billing.fail(fault, times=times, names=[candidate.name])
            return await self.world.approve(replica, candidate)

        self.note(candidate, "approved", self.do(approve()), {200, 400, 409, 502, 503})

    @rule(candidate=candidates)
    def reject(self, candidate: Candidate) -> None:
        """An admin rejects."""

        async def reject() -> Answer:
            return await self.world.reject(await self.service(), candidate)

        self.note(candidate, "rejected", self.do(reject()), {200, 400, 409})

    @rule(candidate=candidates)
    def retry(self, candidate: Candidate) -> None:
        """An admin retries an approval."""
        answer = self.do(self.try_again(candidate))
        self.note(candidate, "approved", answer, {200, 400, 404, 409, 502, 503})

    async def try_again(self, candidate: Candidate) -> Answer:
        """Retry an approval, unless it has ended."""
        return await self.world.ask(await self.service(), "POST", f"/candidates/{candidate.id}/approval/retry")

    @rule(candidate=candidates)
    def resolve(self, candidate: Candidate) -> None:
        """An admin looks in billing and resolves approvals in doubt accordingly."""

        async def resolve() -> tuple[str, Answer]:
            replica = await self.service()
            ids = (await self.world.billing.provider_ids({candidate.name}))[candidate.name]
            ours = [number for number in ids if number != self.foreign.get(candidate.name)]
            if ours and await self.world.fetch(READ_IN_DOUBT, [candidate.id]):
                return "approved", await self.world.resolve(replica, candidate, resolution="link", provider_id=ours[0])
            return "pending", await self.world.resolve(replica, candidate, resolution="let_go")

        decision, answer = self.do(resolve())
        if candidate in self.overruled and answer is not None and answer.status_code == 409:
            return  # its provider is an orphan
        self.note(candidate, decision, answer, {200, 400, 404, 409})

    @rule(candidate=candidates, fault=st.sampled_from(["slow", *FAULTS]), seconds=st.floats(0.0, 1.3 * SLOW_SECONDS))
    def overrule(self, candidate: Candidate, fault: str, seconds: float) -> None:
        """An admin approves, and the candidate is rejected in SQL during, before or after it."""

        async def overrule() -> tuple[bool, Answer]:
            replica = await self.service()
            await self.world.billing.fail(fault, times=1, names=[candidate.name], delay=SLOW_SECONDS)
            approving = asyncio.create_task(self.world.approve(replica, candidate))
            await asyncio.sleep(seconds)
            return await self.world.overrule(candidate), await approving

        was_pending, answer = self.do(overrule())
        if was_pending:
            assert candidate not in self.decided, f"it was {self.decided[candidate]}, and pending"
            self.decided[candidate] = "rejected"
            self.overruled.add(candidate)
            self.expect(answer, {400, 409, 502, 503})
        else:
            self.note(candidate, "approved", answer, {200, 400, 409, 502, 503})

    @rule(candidate=candidates)
    def erase(self, candidate: Candidate) -> None:
        """A company's data is erased, unless it has an unfinished approval."""

        async def erase() -> str:
            try:
                await self.world.erase(candidate.email)
            except ApprovalUnfinishedError:
                return "stands"
            except PersonNotFound:
                assert candidate in self.erased, "it is not known, and was not erased"
            else:
                assert candidate not in self.erased, "it was erased twice"
            [row] = await self.world.fetch(READ_DECISIONS, [candidate.id])
            assert row["is_erased"], dict(row)
            return row["status"]

        status = self.do(erase())
        if status == "stands":
            assert candidate not in self.erased, "an erased candidate has an unfinished approval"
            return
        self.erased.add(candidate)
        assert status == self.decided.setdefault(candidate, status), f"it was {self.decided[candidate]}, now {status}"

    @rule(target=staff)
    def hire(self) -> Staff:
        """Another admin logs in."""

        async def hire() -> Staff:
            return await self.world.hire(await self.service())

        return self.do(hire())

    @rule(candidate=candidates, member=staff, fault=st.sampled_from(FAULTS))
    def erase_staff(self, candidate: Candidate, member: Staff, fault: str) -> None:
        """An admin approves and is erased during it: the approval ends normally, and the admin has no more access."""

        async def erase() -> tuple[Answer, Answer, Answer]:
            replica = await self.service()
            await self.world.billing.fail(fault, times=1, names=[candidate.name])
            approving = asyncio.create_task(self.world.approve(replica, candidate, token=member.token))
            if member not in self.erased:
                await self.world.erase(member.email)
            answer = await approving
            replica = await self.service()
            await asyncio.sleep(ENDED_SECONDS)
            read = await self.world.ask(replica, "GET", f"/candidates/{candidate.id}", token=member.token)
            return answer, read, await self.world.try_to_log_in(replica, member.email)

        answer, read, log_in = self.do(erase())
        if answer is None or answer.status_code != 401:
            assert member not in self.erased, "an erased user approved"
            self.note(candidate, "approved", answer, {200, 400, 409, 502, 503})
        self.erased.add(member)
        # None: it reached its failpoint and died.
        assert read is None or read.status_code == 401, "an erased user reads"
        assert log_in is None or log_in.status_code == 401, "an erased user signs in"

    @rule(missing=st.integers(-2, 3))
    def recount(self, missing: int) -> None:
        """Counts are wrong, and two operators recount at once."""

        async def recount() -> None:
            if missing:
                await add_to_counts(self.world, -missing)
            await recount_at_once(self.world, 2, missing)

        self.do(recount())

    @rule(failpoint=st.sampled_from(FAILPOINTS), hit=st.integers(1, 3))
    def crash(self, failpoint: str, hit: int) -> None:
        """The service is killed now, and again when it reaches a failpoint."""

        async def crash() -> None:
            await self.world.kill(await self.service())
            self.replica = await self.world.start(failpoint=failpoint, hit=hit)

        self.do(crash())

    @rule(seconds=st.floats(0.0, 1.5 * LEASE_SECONDS))
    def wait(self, seconds: float) -> None:
        """Time passes, and the service sweeps."""
        self.do(self.service())
        self.do(asyncio.sleep(seconds))

    def expect(self, answer: Answer, allowed: set[int]) -> None:
        """A response has one of these statuses; None if the service died."""
        if answer is None:
            assert self.replica is not None
            self.do(self.replica.wait_until_dead())
        else:
            assert answer.status_code in allowed, answer.text

    def note(self, candidate: Candidate, decision: str, answer: Answer, allowed: set[int]) -> None:
        """Compare a response with the model, and update the model."""
        self.expect(answer, allowed)
        if answer is None:
            return
        if candidate in self.decided and decision != "pending":
            assert answer.status_code in (400, 404), f"it was {self.decided[candidate]}: {answer.text}"
        if answer.status_code == 200 and decision != "pending":
            self.decided[candidate] = decision

    def teardown(self) -> None:
        """Let everything finish, and check the result."""
        if self.registered:
            self.do(self.finish())
        self.do(self.world.clear())

    async def finish(self) -> None:
        """Restart, complete unfinished approvals, and compare the decisions with the model."""
        await self.world.clear()
        self.replica = None
        await self.service()
        await asyncio.gather(*(self.try_again(candidate) for candidate in self.registered))  # rather than wait
        assert self.replica is not None
        findings = await conclude(
            self.world, self.replica, self.registered, foreign=self.foreign, overruled=self.overruled
        )
        self.findings.add(findings)
        assert not findings.problems, findings.problems
        rows = await self.world.fetch(READ_DECISIONS, [candidate.id for candidate in self.registered])
        decisions = {row["id"]: row["status"] for row in rows}
        assert {row["id"] for row in rows if row["is_erased"]} == {
            one.id for one in self.erased if isinstance(one, Candidate)
        }, "it is not those that are erased who were"
        for candidate, decision in self.decided.items():
            assert decisions[candidate.id] == decision, f"{candidate.name} was {decision}"


async def explore(world: World, random: Random, *, examples: int = 3, steps: int = STEPS) -> Findings:
    """Run this many random histories."""
    machine = type(
        "Approvals",
        (Approvals,),
        {
            "world": world,
            "loop": asyncio.get_running_loop(),
            "honours_keys": random.random() < 0.5,
            "findings": Findings(),
        },
    )
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,  # the runner's seed repeats a history
        phases=[Phase.generate],  # a history takes seconds, too long for shrinking
        suppress_health_check=list(HealthCheck),
    )
    seeded = seed(random.getrandbits(64))(machine)
    await asyncio.to_thread(run_state_machine_as_test, seeded, settings=options)
    return machine.findings
