"""The ways in which creating a provider can fail; they differ in whether a provider may have been created."""

from __future__ import annotations


class BillingError(Exception):
    """Billing returned no provider. The message is safe to show and to log."""

    outcome = "uncertain"  # its label in the metrics of billing calls
    is_response = False  # whether the circuit breaker counts it as a response
    retry_after = 0.0  # seconds that billing asks callers to wait


class BillingNotSent(BillingError):
    """Nothing reached billing, so nothing was created."""

    outcome = "not_sent"


class BillingCircuitOpen(BillingNotSent):
    """Billing failed too often recently, so nothing was sent; calls are allowed again after `retry_after` seconds."""

    outcome = "circuit_open"

    def __init__(self, retry_after: float, last_reason: str) -> None:
        super().__init__(f"calls to billing are paused after repeated failures; the last: {last_reason}")
        self.retry_after = retry_after


class BillingRefused(BillingError):
    """Billing refused, so this request created nothing. `is_retryable`: the reason is not the request itself."""

    outcome = "refused"
    is_response = True

    def __init__(self, reason: str, *, is_retryable: bool = False) -> None:
        super().__init__(reason)
        self.is_retryable = is_retryable


class BillingNameTaken(BillingError):
    """Billing has a provider with this name: another company's, or ours from an attempt whose response was lost."""

    outcome = "name_taken"
    is_response = True

    def __init__(self) -> None:
        super().__init__("billing already has a provider with this name")


class BillingUncertain(BillingError):
    """There was no usable response: billing may or may not have created the provider."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class BillingUnusable(BillingUncertain):
    """Billing's response is unusable: a later request is not expected to help."""

    is_response = True
