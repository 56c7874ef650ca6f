"""Errors about idempotency keys."""

from __future__ import annotations

from provider_registration.errors import ConflictError, InvalidHeaderError, InvalidInputError

MIN_LENGTH = 16
MAX_LENGTH = 255


class KeyMissing(InvalidHeaderError):
    """The operation needs an `Idempotency-Key`."""

    code = "idempotency-key-missing"
    title = "Idempotency key missing"

    def __str__(self) -> str:
        return "This operation needs an Idempotency-Key: a new random one for each operation, the same for its retries."


class KeyInvalid(InvalidHeaderError):
    """The `Idempotency-Key` is malformed, or there are several."""

    code = "idempotency-key-invalid"
    title = "Idempotency key invalid"

    def __str__(self) -> str:
        return (
            f"Send one Idempotency-Key of {MIN_LENGTH} to {MAX_LENGTH} visible ASCII characters, with or without "
            "quotation marks around it."
        )


class KeyReused(InvalidInputError):
    """The key belongs to a request with other content."""

    code = "idempotency-key-reused"
    title = "Idempotency key reused"

    def __str__(self) -> str:
        return "This Idempotency-Key was sent with other content before; use a new key for another request."


class KeyInUse(ConflictError):
    """The request with this key is under way; `retry_after` in seconds."""

    code = "idempotency-key-in-use"
    title = "Idempotency key in use"

    def __init__(self, retry_after: int = 1) -> None:
        self.retry_after = retry_after

    def __str__(self) -> str:
        return "A request with this Idempotency-Key is under way; repeat it later for its response."
