"""Why a person's data cannot be shown or erased."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


class PersonalDataError(Exception):
    """Nothing was shown or erased; the message is a sentence for whoever asked."""


class NothingKnown(PersonalDataError):
    """Nobody has registered or logs in with this address."""

    def __init__(self) -> None:
        super().__init__("Nobody has registered or logs in with this address.")


class ApprovalStands(PersonalDataError):
    """Billing may be making their provider just now."""

    def __init__(self) -> None:
        super().__init__("An approval of theirs is not finished; let it end or resolve it, then erase.")


class AddressShared(PersonalDataError):
    """A release that knew no canonical form gave the address to several."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        super().__init__(
            f"Others have this address in another spelling: {', '.join(map(str, ids))}. Change theirs first, as "
            "OPERATIONS.md says for candidates that share an address."
        )
