"""A durable map from text keys to bytes, for state that is replaced rather than appended to."""

from __future__ import annotations

from fedcredit.errors import StoreCorruptError
from fedcredit.store.database import Database


class Records:
    """The collection called ``name`` inside ``database``; several share one database and its transactions."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    def get(self, key: str) -> bytes | None:
        """Return the value of ``key``; ``None`` if there is no such key."""
        rows = self._database.execute("SELECT value FROM records WHERE collection = ? AND key = ?", (self._name, key))
        if not rows:
            return None
        ((value,),) = rows
        if not isinstance(value, bytes):
            raise StoreCorruptError(path=self._database.place, problem=f'a record of "{self._name}" is not bytes')
        return value

    def put(self, key: str, value: bytes) -> None:
        """Set ``key`` to ``value``; durable on return, or with the enclosing ``database.transaction()``.

        Raises:
            DiskFullError, NotWritableError: the previous value is unchanged.
        """
        self._database.execute(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET value = excluded.value",
            (self._name, key, value),
        )

    def delete(self, key: str) -> None:
        """Remove ``key``; a key that is not there stays absent."""
        self._database.execute("DELETE FROM records WHERE collection = ? AND key = ?", (self._name, key))

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix`` in code-point order; an empty prefix returns all."""
        # substr, not LIKE or GLOB: a prefix is text, and "%" or "*" in a key must not be a pattern.
        rows = self._database.execute(
            "SELECT key FROM records WHERE collection = ? AND substr(key, 1, ?) = ? ORDER BY key",
            (self._name, len(prefix), prefix),
        )
        return [str(key) for (key,) in rows]
