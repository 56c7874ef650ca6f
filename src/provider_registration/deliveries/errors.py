"""Errors of deliveries."""

from __future__ import annotations

from provider_registration.errors import ConflictError, InvalidStateError, NotFoundError


class DeliveryError:
    """An error about one delivery."""

    def __init__(self, delivery_id: int) -> None:
        self.delivery_id = delivery_id


class DeliveryNotFound(DeliveryError, NotFoundError):
    """There is no delivery with this ID."""

    code = "delivery-not-found"
    title = "Delivery not found"

    def __str__(self) -> str:
        return f"Delivery {self.delivery_id} not found."


class AlreadyDelivered(DeliveryError, InvalidStateError):
    """The message was delivered."""

    code = "already-delivered"
    title = "Already delivered"

    def __str__(self) -> str:
        return f"Delivery {self.delivery_id} was delivered; it is not sent again."


class DeliveryTargetGone(DeliveryError, ConflictError):
    """There is nobody to send it to any more."""

    code = "delivery-target-gone"
    title = "Target of the delivery is gone"

    def __str__(self) -> str:
        return f"The webhook of delivery {self.delivery_id} was deleted; it is not sent again."


class DeliveryInProgress(DeliveryError, ConflictError):
    """The message is being sent."""

    code = "delivery-in-progress"
    title = "Delivery in progress"
    retry_after = 30

    def __str__(self) -> str:
        return f"Delivery {self.delivery_id} is being sent. Check again in a moment."
