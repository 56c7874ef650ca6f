"""How a call to billing can end without a provider. What matters of each: may billing have made one?"""

from __future__ import annotations


class BillingError(Exception):
    """Billing gave no provider. The message is safe to show and to log."""


class BillingNotSent(BillingError):
    """Nothing reached billing, so nothing was made."""


class BillingCircuitOpen(BillingNotSent):
    """Billing failed too often just now, so it was not asked. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("calls to billing are paused after repeated failures")
        self.retry_after = retry_after


class BillingRefused(BillingError):
    """Billing said no with a 4xx other than 409: this request made nothing."""

    def __init__(self, status: int) -> None:
        super().__init__(f"billing refused the request with status {status}")
        self.status = status


class BillingNameTaken(BillingError):
    """Billing has a provider of this name: another company's, or ours from an earlier try whose answer was lost."""

    def __init__(self) -> None:
        super().__init__("billing already has a provider of this name")


class BillingUncertain(BillingError):
    """No usable answer came: billing may have made the provider, or not."""


class BillingUnusable(BillingUncertain):
    """Billing answers, but never what it should: asking again later will not tell more."""
