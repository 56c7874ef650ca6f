"""Takes keys and keeps answers, in the transaction of the effect.

A key is locked for the transaction without waiting, so a request whose key is in use never blocks others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.errors import ServiceError
from provider_registration.idempotency import queries
from provider_registration.idempotency.errors import KeyInUse, KeyReused
from provider_registration.idempotency.models import Answer, Kept, Key


async def take(session: AsyncSession, key: Key) -> Kept | None:
    """Lock a key until the transaction ends, and return what is kept for it; None: the request is new.

    Raises:
        KeyInUse: another transaction holds it.
        KeyReused: it belongs to a request with other content.
    """
    taken = (await take_all(session, [key]))[key.hash]
    if isinstance(taken, ServiceError):
        raise taken
    return taken


async def take_all(session: AsyncSession, keys: Sequence[Key]) -> Mapping[str, Kept | ServiceError | None]:
    """The same for different keys, by their hashes; the errors of `take` are values here."""
    by_hash = {key.hash: key for key in keys}
    parameters = {"hashes": list(by_hash), "locks": [key.lock for key in by_hash.values()]}
    rows = (await session.execute(queries.LOCK_KEYS, parameters)).mappings().all()
    found = {row["hash"]: row for row in rows if row["answer"] is not None}  # these are final
    taken: dict[str, Kept | ServiceError | None] = {
        row["hash"]: None if row["is_locked"] else KeyInUse() for row in rows
    }
    if rest := [row["hash"] for row in rows if row["is_locked"] and row["answer"] is None]:
        found |= {row["hash"]: row for row in (await session.execute(queries.FIND_KEYS, {"hashes": rest})).mappings()}
    for hash_, row in found.items():
        key = by_hash[hash_]
        if row["fingerprint"] != key.fingerprint:
            taken[hash_] = KeyReused()
        else:
            taken[hash_] = Kept(row["answer"], row["candidate_id"])
            key.is_replay = row["answer"] is not None
    return taken


async def keep(session: AsyncSession, key: Key, answer: Answer | None, *, candidate_id: UUID | None = None) -> None:
    """Keep the answer for a key that was taken in this transaction.

    `candidate_id`: the erasure of this candidate's personal data deletes the answer. None as `answer` is for an
    approval that has begun; `end_open` ends it.
    """
    await keep_all(session, [(key, Kept(answer, candidate_id))])


async def keep_all(session: AsyncSession, answers: Sequence[tuple[Key, Kept]]) -> None:
    """The same for several keys."""
    kept = [
        {
            "hash": key.hash,
            "fingerprint": key.fingerprint,
            "candidate_id": str(each.candidate_id) if each.candidate_id else None,
            "answer": each.answer,
        }
        for key, each in answers
    ]
    await session.execute(queries.KEEP, {"kept": json.dumps(kept)})


async def end_open(session: AsyncSession, candidate_id: UUID, answer: Answer | None) -> None:
    """End the open keys of a locked candidate whose approval ended undecided.

    With an answer, it is kept for them; without one, they are forgotten, and a repeated request is a new one.
    """
    parameters = {"candidate_id": candidate_id}
    if answer is None:
        await session.execute(queries.RELEASE_OPEN_KEYS, parameters)
    else:
        await session.execute(queries.ANSWER_OPEN_KEYS, parameters | {"answer": json.dumps(answer)})
