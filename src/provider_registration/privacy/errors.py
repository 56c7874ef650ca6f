"""Errors of export and erasure of personal data."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


class PersonalDataError(Exception):
    """Nothing was exported or erased; the message is for the operator."""


class PersonNotFound(PersonalDataError):
    """No candidate or user has this e-mail address."""

    def __init__(self) -> None:
        super().__init__("No candidate or user has this e-mail address.")


class ApprovalUnfinishedError(PersonalDataError):
    """Billing may be creating the candidate's provider."""

    def __init__(self) -> None:
        super().__init__("The candidate has an unfinished approval; wait until it ends or resolve it, then erase.")


class AddressShared(PersonalDataError):
    """Several candidates or users share the address, stored by a release without canonical addresses."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        super().__init__(
            f"Others have this e-mail address in another spelling: {', '.join(map(str, ids))}. Change theirs first; "
            "see OPERATIONS.md, Candidates share an e-mail address."
        )
