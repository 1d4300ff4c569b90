"""Which versions of the canonical data set this release speaks."""

from __future__ import annotations

from typing import Final

from fedcredit.errors import SchemaVersionError

SPOKEN: Final = (1,)
"""Schema versions that this release reads, newest last. A version is dropped only with a major release."""


def require_spoken(version: int) -> None:
    """Raise ``SchemaVersionError`` unless this release speaks the version."""
    if version not in SPOKEN:
        raise SchemaVersionError(asked=f"version {version}", spoken=", ".join(map(str, SPOKEN)))
