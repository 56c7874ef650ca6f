"""How creating a provider can fail. What matters of each: may the billing system have created one?"""

from __future__ import annotations


class BillingError(Exception):
    """Billing returned no provider. The message is safe to show and to log."""

    outcome = "uncertain"  # as the metrics of billing calls name it
    is_response = False  # whether billing responds, as the circuit breaker counts it
    retry_after = 0.0  # seconds that billing asks callers to wait


class BillingNotSent(BillingError):
    """Nothing reached billing, so nothing was created."""

    outcome = "not_sent"


class BillingCircuitOpen(BillingNotSent):
    """Billing failed too often just now, so nothing was sent. `retry_after` is the seconds until a call may be."""

    outcome = "circuit_open"

    def __init__(self, retry_after: float) -> None:
        super().__init__("calls to billing are paused after repeated failures")
        self.retry_after = retry_after


class BillingRefused(BillingError):
    """Billing refused, so this request created nothing. `is_retryable`: that says nothing about the request itself."""

    outcome = "refused"
    is_response = True

    def __init__(self, reason: str, *, is_retryable: bool = False) -> None:
        super().__init__(reason)
        self.is_retryable = is_retryable


class BillingNameTaken(BillingError):
    """Billing has a provider of this name: another company's, or ours from an earlier try whose response was lost."""

    outcome = "name_taken"
    is_response = True

    def __init__(self) -> None:
        super().__init__("billing already has a provider of this name")


class BillingUncertain(BillingError):
    """No usable response came: billing may have created the provider, or not."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class BillingUnusable(BillingUncertain):
    """Billing responds, but never as it should: a later request will not tell more."""

    is_response = True
