"""What a privacy ledger's entries add up to; reads the journal and never writes to it."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from fedcredit.errors import (
    CapMismatchError,
    LedgerCorruptError,
    LedgerOwnerError,
    LedgerRolledBackError,
    PrivacyError,
    PrivacyPlanError,
    SecurityError,
    StoreCorruptError,
)
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger_entries import CapAmended, Charge, LedgerEntry, LedgerOpened, decode_entry
from fedcredit.privacy.release import Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.journal import EMPTY_HEAD, Entry, Journal


class LedgerRecord:
    """The sums over the entries of one ledger, in order.

    ``place`` is what errors call the ledger, a path.

    Raises:
        LedgerCorruptError: the chain is broken, or an entry is not one this version fully understands, or the entries
            contradict each other.
    """

    def __init__(self, journal: Journal, *, place: str) -> None:
        self._journal = journal
        self._place = place
        self._owner: InstitutionId | None = None
        self._caps: dict[str, BudgetCap] = {}
        self._charged: dict[str, Charge] = {}
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._spending: dict[str, Spending] = {}
        self._latest_charge: int | None = None
        self._head = EMPTY_HEAD
        self._length = 0
        self._known = {EMPTY_HEAD}
        with self.storage_errors():
            journal.verify()
            for entry in journal.entries():
                self._replay(entry)

    @property
    def owner(self) -> InstitutionId | None:
        """Return whose ledger it is; ``None`` before its opening is written down."""
        return self._owner

    @property
    def caps(self) -> Mapping[str, BudgetCap]:
        """Return the cap of each partition: that of the opening, with the amendments since."""
        return MappingProxyType(self._caps)

    @property
    def head(self) -> bytes:
        """Return the digest of the last entry, which stands for all of them."""
        return self._head

    @property
    def latest_charge(self) -> int | None:
        """Return the latest time of a charge; ``None`` if there is none, or none that has a time."""
        return self._latest_charge

    @property
    def partitions(self) -> tuple[str, ...]:
        """Return the names of all partitions that have a cap or a charge, sorted."""
        return tuple(sorted(self._caps.keys() | self._spending.keys()))

    def __len__(self) -> int:
        return self._length

    def require_owner(self, institution: InstitutionId) -> None:
        """Return if the ledger is this institution's, or nobody's yet.

        Raises:
            LedgerOwnerError: it is another's.
        """
        if self._owner not in {None, institution}:
            raise LedgerOwnerError(path=self._place, owner=self._owner, institution=institution)

    def require_caps(self, caps: Mapping[str, BudgetCap], *, keys: Mapping[str, str]) -> None:
        """Return if the institution may go on with these caps; before its opening is written down any epsilon is new.

        ``keys`` names the setting of each partition, for errors.

        Raises:
            PrivacyPlanError: a delta is not the one that the ledger was opened with, or has charged at.
            CapMismatchError: a cap is above the one that the ledger holds.
        """
        for partition, cap in sorted(caps.items()):
            known = self.spent(partition)
            if known is not None and known.delta != cap.delta:
                raise PrivacyPlanError(
                    problem=f"delta of {partition} was fixed at {known.delta!r} for the life of the ledger, the cap "
                    f"says {cap.delta!r}"
                )
            held = self._caps.get(partition)
            most = held.epsilon if held is not None else 0.0
            if self._owner is not None and cap.epsilon > most:
                raise CapMismatchError(key=keys.get(partition, partition), wanted=cap.epsilon, cap=most)

    def require_head(self, head: bytes) -> None:
        """Return if the ledger has, or once had, this head; the head of the empty journal counts.

        Raises:
            LedgerRolledBackError: it never had.
        """
        if head not in self._known:
            raise LedgerRolledBackError(path=self._place, head=head.hex()[:16])

    def charged(self, release_id: str) -> Release | None:
        """Return the release that was charged under this id."""
        known = self._charged.get(release_id)
        return None if known is None else known.release

    def charges(self, *, run: str, partition: str, kind: str | None) -> int:
        """Return how many releases of a run were charged to ``partition``: of one kind, or of all."""
        return sum(
            count
            for (its_run, its_partition, its_kind), count in self._counts.items()
            if (its_run, its_partition) == (run, partition) and kind in {None, its_kind}
        )

    def spent(self, partition: str) -> Spending | None:
        """Return what ``partition`` has spent; ``None`` if it has neither a charge nor a cap, so no delta either."""
        known = self._spending.get(partition)
        if known is None and partition in self._caps:
            return Spending.none(self._caps[partition].delta)
        return known

    def spent_by_run(self, partition: str) -> Mapping[str, Spending]:
        """Return what each run has spent of ``partition``, in the order of their first charges."""
        found: dict[str, Spending] = {}
        for charge in list(self._charged.values()):  # the copy is made at once; another thread may charge meanwhile
            if charge.release.partition == partition:
                found[charge.run] = found.get(charge.run, Spending.none(charge.delta)).after(charge.release)
        return MappingProxyType(found)

    def entries(self) -> Iterator[LedgerEntry]:
        """Yield all entries from the disk, oldest first.

        Raises:
            LedgerCorruptError: one is missing, or was changed since the ledger was opened.
        """
        with self.storage_errors():
            for entry in self._journal.entries():
                yield self._decoded(entry)

    def remember(self, entry: Entry, said: LedgerEntry) -> None:
        """Count an entry that was just written and says ``said``."""
        if isinstance(said, Charge):
            self._remember_charge(said)
        elif isinstance(said, LedgerOpened):
            self._owner, self._caps = said.institution, dict(said.caps)
        else:
            self._caps[said.partition] = replace(self._caps[said.partition], epsilon=said.epsilon)
        self._head, self._length = entry.digest, entry.index + 1
        self._known.add(entry.digest)

    def check_sole_writer(self) -> None:
        """Return if the journal ends where this record does.

        Raises:
            LedgerCorruptError: somebody else wrote to it, or undid what was written.
        """
        length, head = self._journal.end
        if (length, head) != (len(self), self.head):
            raise self.corrupt(min(length, len(self)), "the journal changed behind the ledger's back")

    @contextlib.contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Return a context in which damage of the store is damage of the ledger."""
        try:
            yield
        except StoreCorruptError as error:
            problem = str(error.fields["problem"])
            # The store names the entry in its text alone; damage of the whole file has none and counts as the first.
            named = re.search(r"\bentry (\d+)", problem)
            raise self.corrupt(int(named.group(1)) if named else 0, problem) from error

    def corrupt(self, index: int, problem: str) -> LedgerCorruptError:
        """Return the error that says so."""
        return LedgerCorruptError(path=self._place, index=index, problem=problem)

    def _replay(self, entry: Entry) -> None:
        said = self._decoded(entry)
        problem = self._contradiction(said)
        if problem:
            raise self.corrupt(entry.index, problem)
        self.remember(entry, said)

    def _decoded(self, entry: Entry) -> LedgerEntry:
        try:
            return decode_entry(entry)
        except (PrivacyError, SecurityError) as error:
            raise self.corrupt(entry.index, error.describe("en").rstrip(".")) from error

    def _contradiction(self, said: LedgerEntry) -> str:
        """Return what makes an entry impossible after those before it; nothing if it is possible."""
        if isinstance(said, LedgerOpened):
            return self._of_opening(said)
        if isinstance(said, CapAmended):
            return "" if said.partition in self._caps else "it amends a cap that there is not"
        return self._of_charge(said)

    def _of_opening(self, said: LedgerOpened) -> str:
        if self._owner is not None:
            return "the ledger was opened before"
        for partition in sorted(said.caps.keys() & self._spending.keys()):
            if said.caps[partition].delta != self._spending[partition].delta:
                return f"the delta of {partition} changes"
        return ""

    def _of_charge(self, said: Charge) -> str:
        # Version 1 has no plan and knew no opening; later charges come after it.
        if (said.plan is None) != (self._owner is None):
            return "a charge of another version stands on the wrong side of the opening"
        before = self.spent(said.release.partition)
        if before is None and self._owner is not None:
            return "it is charged to a partition without a cap"
        if before is not None and before.delta != said.delta:
            return f"the delta of {said.release.partition} changes"
        return "the release was charged before" if said.release.release_id in self._charged else ""

    def _remember_charge(self, said: Charge) -> None:
        release, run = said.release, said.run
        self._charged[release.release_id] = said
        self._counts[run, release.partition, said.kind] += 1
        before = self._spending.get(release.partition)
        self._spending[release.partition] = (before or Spending.none(said.delta)).after(release)
        if said.time is not None:
            self._latest_charge = max(said.time, self._latest_charge or 0)
