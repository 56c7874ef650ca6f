"""Encrypts the secrets that the database keeps, with SECRETS_KEY."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32  # AES-256
KEY_ID_BYTES = 8
NONCE_BYTES = 12  # NIST SP 800-38D: 96 bits


class SecretUnreadable(Exception):
    """A stored secret was encrypted with a key that this process does not have, or for another row."""


class SecretBox:
    """Encrypts with the current key, and decrypts with the current and the previous one.

    A sealed secret is the ID of its key, a nonce, and the output of AES-GCM. `context` names the table and row that it
    belongs to, not the column, because a rotation moves a secret to another one: elsewhere it cannot be opened.
    """

    def __init__(self, key: str, previous_key: str | None = None) -> None:
        self._current, current = _derive(key)
        self._ciphers = {self._current: current}
        if previous_key is not None:
            self._ciphers |= dict([_derive(previous_key)])

    def seal(self, secret: bytes, *, context: str) -> bytes:
        """Encrypt a secret."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self._current + nonce + self._ciphers[self._current].encrypt(nonce, secret, context.encode())

    def can_open(self, sealed: bytes, *, context: str) -> bool:
        """Whether `open` succeeds."""
        try:
            self.open(sealed, context=context)
        except SecretUnreadable:
            return False
        return True

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt a secret.

        Raises:
            SecretUnreadable: it was not sealed with one of the keys, or for another context.
        """
        cipher = self._ciphers.get(sealed[:KEY_ID_BYTES])
        if cipher is None:
            raise SecretUnreadable
        nonce = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[KEY_ID_BYTES + NONCE_BYTES :], context.encode())
        except (InvalidTag, ValueError):
            raise SecretUnreadable from None

    @property
    def key_id(self) -> bytes:
        """The first bytes of every secret that is sealed with the current key."""
        return self._current


def _derive(key: str) -> tuple[bytes, AESGCM]:
    """The ID of a key, and its cipher."""
    derived = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"provider-registration: stored secrets").derive(key.encode())
    digest = Hash(SHA256())
    digest.update(derived)
    return digest.finalize()[:KEY_ID_BYTES], AESGCM(derived)
