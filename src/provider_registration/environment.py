"""Reads settings from environment variables, `.env` in the working directory and secret files."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dotenv.parser import parse_stream
from pydantic import ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

DOTENV = ".env"
FILE_SUFFIX = "_FILE"
WHOLE_SENTENCE = "whole_sentence"  # type of an error whose message includes its variable
# Variables that Kubernetes sets for services: DATABASE_SERVICE_HOST, DATABASE_PORT_5432_TCP_ADDR.
OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")
SIMILARITY = 0.9  # of difflib: DATABASE_URI matches DATABASE_URL, DATABASE_USER does not


class SettingsError(Exception):
    """Invalid settings; `problems` has one line for each variable, `missing` the fields that are not set."""

    def __init__(self, problems: list[str], missing: Collection[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.missing = missing


class EmptyMeansOff:
    """Marks a setting whose empty value has a meaning; for all others, empty means not set."""


MAX_SECRET_LENGTH = 4096  # characters


class MayBeInFile:
    """Marks a secret setting: a variable with the suffix _FILE can point to a file with its value."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Replaces the value of a setting that cannot be read, with the reason."""

    sentence: str


class Environment(BaseSettings):
    """The base of all settings: where values come from."""

    model_config = SettingsConfigDict(
        env_file=DOTENV,
        env_file_encoding="utf-8-sig",  # some editors write a byte order mark
        extra="ignore",
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order of precedence."""
        written = [source for source in (dotenv_settings, env_settings) if isinstance(source, EnvSettingsSource)]
        return init_settings, _SecretFiles(cls, written), env_settings, dotenv_settings

    @model_validator(mode="before")
    @classmethod
    def _ignore_empty(cls, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if value != "" or cls._can_be_empty(name)}

    @field_validator("*", mode="before")
    @classmethod
    def _raise_refusal(cls, value: object) -> object:
        if isinstance(value, _Refusal):
            raise PydanticCustomError(WHOLE_SENTENCE, "{sentence}", {"sentence": value.sentence})
        return value

    @classmethod
    def _can_be_empty(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and _has(field, EmptyMeansOff)

    @classmethod
    def secrets(cls) -> list[str]:
        """Names of the settings that can be in a file."""
        return [name for name, field in cls.model_fields.items() if _has(field, MayBeInFile)]


def _has(field: FieldInfo, mark: type) -> bool:
    return any(isinstance(each, mark) for each in field.metadata)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads values from the files that variables point to."""

    def __init__(self, kind: type[Environment], written: Iterable[EnvSettingsSource]) -> None:
        super().__init__(kind)
        self._kind = kind
        self._given = {name: value for source in written for name, value in source.env_vars.items() if value}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value, its name, and that it is not JSON."""
        name, path = field_name.upper(), self._given.get(f"{field_name}{FILE_SUFFIX.lower()}")
        if not path:
            return None, field_name, False
        if self._given.get(field_name):
            return _Refusal(f"{name} and {name}{FILE_SUFFIX} are both set; set one of them"), field_name, False
        return _secret_in(f"{name}{FILE_SUFFIX}", path), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Every secret from a file, or the reason why it cannot be read."""
        fields = self._kind.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in self._kind.secrets()}
        return {name: value for name, value in found.items() if value is not None}


def _secret_in(variable: str, path: str) -> str | _Refusal:
    try:
        if Path(path).exists() and not Path(path).is_file():
            return _Refusal(f"{variable} points to {path}, which cannot be read: it is not a file")
        with Path(path).open(encoding="utf-8-sig") as file:
            secret = file.read(MAX_SECRET_LENGTH + 1).rstrip("\r\n")
    except OSError as error:
        return _Refusal(f"{variable} points to {path}, which cannot be read: {error.strerror}")
    except ValueError:
        return _Refusal(f"{variable} points to {path}, which is not UTF-8 text")
    if len(secret) > MAX_SECRET_LENGTH or not secret.isprintable():
        return _Refusal(f"{variable} points to {path}, which is not one line of up to {MAX_SECRET_LENGTH} characters")
    return secret or _Refusal(f"{variable} points to {path}, which is empty")


_Kind = TypeVar("_Kind", bound=Environment)


def load_settings(kind: type[_Kind]) -> _Kind:
    """Read the settings `kind`.

    Raises:
        SettingsError: some are missing or unsafe; the message has their names but no values.
    """
    _check_dotenv()
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # its warning has no file name; find_unparsable reports it
    try:
        return kind()
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [_message(kind, problem) for problem in found]
        missing = {str(problem["loc"][0]) for problem in found if problem["type"] == "missing"}
        raise SettingsError(problems + find_unparsable(), missing) from None


def find_unparsable() -> list[str]:
    """A message for each line of `.env` that cannot be parsed, without its content."""
    path = Path(DOTENV).absolute()
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig") as file:
        lines = [binding.original.line for binding in parse_stream(file) if binding.error]
    return [f"{path}, line {line}, is not of the form NAME=value and is ignored" for line in lines]


def _check_dotenv() -> None:
    """Refuse a `.env` with an encoding that would give wrong variables or a traceback."""
    path = Path(DOTENV).absolute()
    try:
        if not path.is_file():
            return
        is_text = "\0" not in path.read_text(encoding="utf-8")  # UTF-16 without a byte order mark has NUL bytes
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise SettingsError([f"{path} is not UTF-8 text; save it as UTF-8"])


def _message(kind: type[Environment], problem: ErrorDetails) -> str:
    name = str(problem["loc"][0])
    if problem["type"] == WHOLE_SENTENCE:
        return problem["msg"]
    if problem["type"] == "missing":
        return f"{name.upper()} is not set ({kind.model_fields[name].description})"
    if problem["type"] != "value_error":
        return f"{name.upper()} is not valid: {problem['msg']}"
    return f"{name.upper()} {problem['msg'].removeprefix('Value error, ')}"


def find_misspelled(kind: type[Environment]) -> dict[str, str]:
    """Variables that are not settings but similar to one, with that setting."""
    known = {name.upper() for name in kind.model_fields} | {f"{name.upper()}{FILE_SUFFIX}" for name in kind.secrets()}
    sources = EnvSettingsSource(kind), DotEnvSettingsSource(kind)
    unknown = {name.upper() for source in sources for name in source.env_vars} - known
    found = {name: _similar_setting(name, known) for name in sorted(unknown) if not OF_KUBERNETES.search(name)}
    return {name: meant for name, meant in found.items() if meant}


def _similar_setting(name: str, known: set[str]) -> str | None:
    """The setting that differs only in about one letter, in underscores, or in one word after the first."""
    if like := difflib.get_close_matches(name, known, n=1, cutoff=SIMILARITY):
        return like[0]
    return next((other for other in sorted(known) if _differ_in_a_word(name.split("_"), other.split("_"))), None)


def _differ_in_a_word(some: list[str], others: list[str]) -> bool:
    shorter, longer = sorted((some, others), key=len)
    return len(shorter) > 1 and any(longer[:at] + longer[at + 1 :] == shorter for at in range(1, len(longer)))
