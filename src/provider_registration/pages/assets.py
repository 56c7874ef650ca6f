"""Static files with a content hash in their names, so that browsers can cache them forever."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file, plain and compressed."""

    name: str
    media_type: str
    plain: bytes
    compressed: bytes


class Assets:
    """The static files of some folders, found by their plain names or by their names with the hash."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._names: dict[str, str] = {}
        self._assets: dict[str, Asset] = {}
        for path in sorted(path for folder in folders for path in folder.iterdir() if path.suffix in MEDIA_TYPES):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]
            name = f"{path.stem}-{digest}{path.suffix}"
            self._names[path.name] = name
            self._assets[name] = Asset(name, MEDIA_TYPES[path.suffix], content, gzip.compress(content, mtime=0))

    def name_of(self, file_name: str) -> str:
        """The file's name with the hash."""
        return self._names[file_name]

    def find(self, name: str) -> Asset | None:
        """The file with this name and hash."""
        return self._assets.get(name)
