"""Why a person's data cannot be shown or erased."""

from __future__ import annotations


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
