"""Errors of the commands that use the API; each has the exit code of its kind."""

from __future__ import annotations

import click

REFUSED, UNREACHABLE = 1, 3  # 2 is click's, for wrong usage


class Refused(click.ClickException):
    """The service refused the request; `code` is that of the problem document."""

    exit_code = REFUSED

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class Unreachable(click.ClickException):
    """There was no response, or not one of this service."""

    exit_code = UNREACHABLE
