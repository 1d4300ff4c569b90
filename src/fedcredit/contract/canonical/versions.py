"""Which versions of the canonical data set a node speaks, and how a consortium settles on one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fedcredit.errors import SchemaVersionError

SPOKEN: Final = (1,)
"""Schema versions that this release reads, newest last. A version is dropped only with a major release."""


def require_spoken(version: int) -> None:
    """Raise ``SchemaVersionError`` unless this release speaks the version."""
    if version not in SPOKEN:
        raise SchemaVersionError(asked=f"version {version}", spoken=_listed(SPOKEN))


def newest_common(statements: Mapping[str, Iterable[int]]) -> int:
    """Return the newest version that every node speaks; ``statements`` maps each node to the versions it states.

    The order of nodes and of versions does not matter, so all nodes choose the same version by themselves.

    Raises:
        SchemaVersionError: there is none, or nobody stated anything; the error says who speaks what.
    """
    stated = {node: frozenset(versions) for node, versions in statements.items()}
    common = frozenset.intersection(*stated.values()) if stated else frozenset()
    if not common:
        asked = "; ".join(f"{node} {_listed(versions)}" for node, versions in sorted(stated.items()))
        raise SchemaVersionError(asked=f"a version common to all nodes ({asked or 'none stated'})", spoken="none")
    return max(common)


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
