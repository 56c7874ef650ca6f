"""Renders templates as pages, with their security headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, cast

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from starlette.responses import HTMLResponse

from provider_registration.pages.assets import Assets
from provider_registration.pages.compression import MIN_BYTES, accepts_gzip, compress
from provider_registration.pages.flash import clear_flash, read_flash
from provider_registration.pages.translations import HOUR, MINUTE, Language, Languages

HERE = Path(__file__).parent
# No page has inline scripts or styles, so injected ones do not run.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
CALL = ["name", "lparen", "string", "rparen"]
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would send `Origin: null`
    "X-Robots-Tag": "noindex",
}


class CompileTimeTranslations(Extension):
    """Translates `_('text')` at compile time: looking up forty texts per request took as long as everything else.

    Such a text is escaped when it is rendered; `_('a %(text)s', text=…)` is markup, and only its values are escaped.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The tokens of a template, with the translated text instead of each such call."""
        language = cast("Language", self.environment.globals["language"])
        tokens = iter(list(stream))
        window = [*islice(tokens, 4)]
        while window:
            if [token.type for token in window] == CALL and window[0].value == "_":
                yield Token(window[0].lineno, "string", language.say(window[2].value))
                window.clear()
            else:
                yield window.pop(0)
            window += islice(tokens, 4 - len(window))


class Renderer:
    """Renders the templates of some folders; each has `templates/` and `static/`.

    Each language has its own compiled templates, which contain its texts.
    """

    def __init__(self, areas: Sequence[Path] = (), translations: Path | None = None) -> None:
        folders = [HERE, *areas]
        self.assets = Assets(folder / "static" for folder in folders)
        self.languages = Languages(translations)
        loader = FileSystemLoader([folder / "templates" for folder in folders])
        self._environments = {language: self._environment(language, loader) for language in self.languages}

    def _environment(self, language: Language, loader: FileSystemLoader) -> Environment:
        environment = Environment(
            loader=loader,
            extensions=["jinja2.ext.i18n", CompileTimeTranslations],
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.policies["ext.i18n.trimmed"] = True
        environment.install_gettext_translations(language.messages, newstyle=True)  # type: ignore[attr-defined]
        environment.globals.update(language=language, languages=list(self.languages))
        environment.filters.update(ago=ago, duration=duration, instant=language.instant, number=language.number)
        return environment

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
        language: Language | None = None,
        **values: Any,  # noqa: ANN401 - whatever the template shows
    ) -> HTMLResponse:
        """Render a page in the negotiated language, or in English.

        Templates get `root`, the gateway's prefix, `static(file name)`, which returns a URL, and `language`.
        """
        flash, root = read_flash(request), request.scope.get("root_path", "")
        content = self.render(template, language, root=root, flash=flash, **values).encode()
        languages = {"Content-Language": (language or self.languages.english).tag, "Vary": "Accept-Encoding"}
        if language:
            languages["Vary"] += ", Accept-Language"
        headers = PAGE_HEADERS | languages | (headers or {})
        if len(content) >= MIN_BYTES and accepts_gzip(request):
            content = compress(content)
            headers["Content-Encoding"] = "gzip"
        response = HTMLResponse(content, status, headers)
        if flash is not None:
            clear_flash(response)
        return response

    def render(
        self,
        template: str,
        language: Language | None = None,
        *,
        root: str,
        **values: Any,  # noqa: ANN401 - whatever the template shows
    ) -> str:
        """Render a template as text."""
        return (
            self._environments[language or self.languages.english]
            .get_template(template)
            .render(root=root, static=lambda name: f"{root}/static/{self.assets.name_of(name)}", **values)
        )


def ago(value: datetime) -> str:
    """Format how long ago something happened, in one unit."""
    return f"{duration(datetime.now(UTC) - value)} ago"


DAY = 24 * HOUR


def duration(value: timedelta | float | None) -> str:
    """Format a duration (timedelta or seconds) in the largest unit that fits: 3 days, 2.5 h, 12 min, 40 s."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.0f} days"
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f}".removesuffix(".0") + " h"
    return f"{seconds / MINUTE:.0f} min" if seconds >= MINUTE else f"{max(seconds, 0):.0f} s"
