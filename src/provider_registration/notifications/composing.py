"""Turns a letter into an e-mail: text and HTML from one template, and its headers.

A message is a folder of `templates/`, a language is a file in it, with the blocks `subject`, `content` and `footer`. It
is rendered twice: with the parts and the layout of text, and with those of HTML.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import idna
from babel import Locale
from babel.dates import format_datetime as format_instant
from babel.numbers import format_decimal
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from provider_registration.notifications.models import Letter, Message

TEMPLATES = Path(__file__).parent / "templates"
ENGLISH = "en"
DIRECTIONS = {"left-to-right": "ltr", "right-to-left": "rtl"}
WIDTH = 72  # characters of a line of text; URLs may be longer
NAMESPACE = UUID(
    "5b2f7e0c-3d0b-5c39-9a51-5f6d0c7c2a11"
)  # never change it: a repeated e-mail would get another Message-ID
MAX_SUBJECT_NAME = 60  # characters of a company's name in a subject


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail ready to be sent. `needs_utf8`: an address has a local part beyond ASCII (RFC 6531)."""

    sender: str
    recipient: str
    content: bytes
    needs_utf8: bool


class Composer:
    """Composes e-mails from one sender: `Supply <supply@example.com>` or the e-mail address alone."""

    def __init__(self, mail_from: str) -> None:
        name, address = parseaddr(mail_from)
        self._sender = _in_ascii(address)
        self._from = Address(name, addr_spec=self._sender)
        self.domain = self._sender.rpartition("@")[2]
        files = {message: {path.stem for path in (TEMPLATES / message).glob("*.jinja")} for message in Message}
        tags = {tag for found in files.values() for tag in found}
        self._languages = {message: {tag.lower(): tag for tag in sorted(found)} for message, found in files.items()}
        self._text = {tag: _environment(tag, "text") for tag in tags}
        self._html = {tag: _environment(tag, "html") for tag in tags}

    def compose(self, letter: Letter, message_id: UUID) -> Mail:
        """Compose an e-mail.

        Raises:
            ValueError: the e-mail address cannot be used.
        """
        tag = self._tag(letter)
        template = f"{letter.message}/{tag}.jinja"
        text = self._text[tag].get_template(template)
        recipient = _in_ascii(letter.to)
        needs_utf8 = not (recipient.isascii() and self._sender.isascii())
        mail = EmailMessage(policy=SMTPUTF8 if needs_utf8 else SMTP)
        mail["From"] = self._from
        mail["To"] = recipient
        mail["Subject"] = _one_line("".join(text.blocks["subject"](text.new_context(letter.values))))
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message_id}@{self.domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic replies
        mail["X-Auto-Response-Suppress"] = "All"  # the same for Microsoft Exchange
        mail.set_content(_without_empty_lines(text.render(letter.values)), cte="quoted-printable")
        html = self._html[tag].get_template(template).render(letter.values)
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        mail["Content-Language"] = tag  # `set_content` removes it
        return Mail(self._sender, recipient, mail.as_bytes(), needs_utf8)

    def _tag(self, letter: Letter) -> str:
        """The tag of the file: that of the language, of a shorter tag (es-MX is Spanish), or English."""
        files, known = self._languages[letter.message], (letter.language or ENGLISH).lower()
        while known not in files and "-" in known:
            known = known.rpartition("-")[0]
        return files.get(known, ENGLISH)


def message_id_of(delivery_id: int, created_at: datetime) -> UUID:
    """The same for every attempt at a delivery, and different in every database."""
    return uuid5(NAMESPACE, f"{delivery_id} {created_at.astimezone(UTC).isoformat()}")


def _environment(tag: str, kind: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=kind == "html",  # noqa: S701 - text must not be escaped
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    locale = Locale.parse(tag, sep="-")
    environment.filters.update(
        flow=_flow,
        quoted=_quoted,
        short=_short,
        one_line=_one_line,
        instant=lambda at: f"{format_instant(at.astimezone(UTC), 'd MMM y, HH:mm', locale=locale)} UTC",
        number=partial(format_decimal, locale=locale),
    )
    environment.globals.update(tag=tag, direction=DIRECTIONS[locale.character_order], layout=f"layout.{kind}.jinja")
    parts = environment.get_template(f"parts.{kind}.jinja").module
    names: Mapping[str, Any] = {name: getattr(parts, name) for name in dir(parts) if not name.startswith("_")}
    environment.globals.update(names)
    return environment


def _in_ascii(address: str) -> str:
    """The address with its domain as A-labels, which every server accepts."""
    local_part, _, domain = address.rpartition("@")
    try:
        return f"{local_part}@{domain if domain.isascii() else idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError as error:
        raise ValueError("the domain is not valid") from error


def _one_line(text: str) -> str:
    """Without line breaks and other control characters: a name in a header cannot start another header."""
    return " ".join("".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text).split())


def _short(name: str) -> str:
    return name if len(name) <= MAX_SUBJECT_NAME else f"{name[:MAX_SUBJECT_NAME]}…"


def _flow(text: str) -> str:
    """One paragraph of text in lines of WIDTH."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _quoted(text: str) -> str:
    """A text by somebody else, as mail programs quote it."""
    lines = [
        textwrap.wrap(line, WIDTH - 2, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()
    ]
    return "\n".join(f"> {line}".rstrip() for wrapped in lines for line in wrapped or [""])


def _without_empty_lines(text: str) -> str:
    """Paragraphs with one empty line between them."""
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"
