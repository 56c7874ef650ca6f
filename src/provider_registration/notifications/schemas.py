"""Request and response bodies of lost links."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from provider_registration.web.text import EmailAddress


class LostLinkRequest(BaseModel):
    """A request for a new link to an application."""

    model_config = ConfigDict(extra="forbid")

    contact_email: EmailAddress = Field(description="The e-mail address of the application")


class LostLinkResponse(BaseModel):
    """The response, whether there is an application or not."""

    detail: str
