"""The privacy ledger of one institution: what its borrowers' privacy has been spent on. Nothing is ever refunded.

``reserve`` puts the charge on disk and returns the ``Reservation`` without which ``noise_share`` draws no noise:
reserve before release. After any crash, what is written is at least what left.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Never

from fedcredit.crypto.streams import fresh_key
from fedcredit.errors import (
    AmendmentError,
    BudgetExhaustedError,
    ClockSetBackError,
    FixedNoiseRefusedError,
    NotReservedError,
    PrivacyOffRefusedError,
    PrivacyPlanError,
    ReleaseConflictError,
)
from fedcredit.parties import InstitutionId
from fedcredit.privacy.accounting import check_epsilon
from fedcredit.privacy.ledger_entries import (
    AMENDED_KIND,
    CHARGE_KIND,
    LARGEST_TIME,
    OPENED_KIND,
    CapAmended,
    Charge,
    LedgerEntry,
    LedgerOpened,
    tidy,
)
from fedcredit.privacy.ledger_record import LedgerRecord
from fedcredit.privacy.plan import HOLDOUT, TRAIN
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.journal import Journal

CAP_KEYS: Final[Mapping[str, str]] = MappingProxyType({TRAIN: "budget.epsilon", HOLDOUT: "budget.holdout_epsilon"})
"""The key of node.toml that holds the cap of a partition."""
CLOCK_TOLERANCE_S: Final = 300
"""How far the clock may lie behind the last charge: time synchronisation steps, and no operator notices minutes."""
_ISSUED_BY_A_LEDGER: Final = object()


class Reservation:
    """The right to draw the noise of one release once; only a ledger makes one, after the charge is on disk.

    Raises:
        NotReservedError: somebody else tried to make one.
    """

    __slots__ = ("_unused", "release", "repeated")

    def __init__(self, release: Release, *, repeated: bool, issuer: object) -> None:
        if issuer is not _ISSUED_BY_A_LEDGER:
            raise NotReservedError(release=release.release_id)
        self.release: Final = release
        self.repeated: Final = repeated
        """The release was charged before, so its noise may have left already: send the stored bytes again, or ask for
        a new attempt. A repeated reservation draws no noise."""
        self._unused = [] if repeated else [True]

    def use(self) -> Release:
        """Return the release and end the reservation: two noise vectors for one charge would halve the noise.

        Raises:
            NotReservedError: the noise was drawn before, by this process or an earlier one.
        """
        try:
            self._unused.pop()
        except IndexError:
            raise NotReservedError(release=self.release.release_id) from None
        return self.release

    def __reduce__(self) -> Never:
        raise TypeError("a reservation is neither copied nor stored; the ledger is")


class PrivacyLedger:
    """The charges of one institution, kept in ``journal``; the only writer of that journal while it is open.

    ``place`` is what errors call the ledger, a path. ``caps`` holds the institution's own budget per partition as
    node.toml has it, ``owner`` its name. Opening checks the chain, every entry, the owner and the caps, in this order;
    a ledger that is new, or has charges of version 1 only, gets its opening entry. ``clock`` gives seconds since 1970.

    Raises:
        LedgerCorruptError: the chain is broken, or an entry is not one this version fully understands.
        LedgerOwnerError: the ledger is another institution's.
        PrivacyPlanError: a cap's delta is not the one that the ledger was opened with.
        CapMismatchError: a cap is above the one that the ledger holds; only an amendment raises it.
        StorageError: the opening could not be written.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        place: str,
        owner: InstitutionId,
        caps: Mapping[str, BudgetCap],
        allow_no_privacy: bool,
        allow_fixed_noise: bool,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._journal = journal
        self._configured = dict(caps)
        self._allow_no_privacy = allow_no_privacy
        self._allow_fixed_noise = allow_fixed_noise
        self._clock = clock
        self._lock = threading.Lock()
        self._record = LedgerRecord(journal, place=place)
        self._record.require_owner(owner)
        self._record.require_caps(caps, keys=CAP_KEYS)
        if self._record.owner is None:
            with self._record.storage_errors():
                opening = LedgerOpened(
                    time=self._now(), institution=owner, caps=dict(sorted(caps.items())), salt=fresh_key(entropy)
                )
                self._write(OPENED_KIND, opening)

    @property
    def head(self) -> bytes:
        """Return the digest of the last entry, 32 bytes: other parties keep it to notice an old copy.

        It is what this ledger wrote last, and never raises: a refusal must be able to name it.
        """
        return self._record.head

    @property
    def caps(self) -> Mapping[str, BudgetCap]:
        """Return the caps that count: the ledger's, or node.toml's where that is lower."""
        held = self._record.caps
        return MappingProxyType(
            {
                name: BudgetCap(epsilon=min(cap.epsilon, held[name].epsilon), delta=cap.delta)
                for name, cap in self._configured.items()
            }
        )

    @property
    def recorded_caps(self) -> Mapping[str, BudgetCap]:
        """Return the caps that the ledger itself holds, amendments included."""
        return self._record.caps

    def require_head(self, head: bytes) -> None:
        """Return if this ledger, or an earlier state of it, had this head; the empty ledger's counts.

        Raises:
            LedgerRolledBackError: it never had, so somebody has seen charges that are missing here.
        """
        self._record.require_head(head)

    def reserve(self, release: Release, *, plan_digest: bytes) -> Reservation:
        """Charge ``release`` durably, or find it charged already, and return the reservation.

        The same release again costs nothing and comes back ``repeated``. ``plan_digest`` names the run plan that asked,
        32 bytes. With shared noise the cap is compared with what the release claims; ``Spending.epsilon_alone`` tells
        the rest. Must not run inside an outer transaction of the journal's database: the charge would be durable only
        later. When anything is raised, nothing was charged, unless the disk itself failed; then opening the ledger
        again tells.

        Raises:
            BudgetExhaustedError: the partition's epsilon would exceed its cap.
            ReleaseConflictError: the release id was charged with other content.
            PrivacyOffRefusedError, FixedNoiseRefusedError: it protects nobody, and the institution has not agreed.
            ClockSetBackError: the clock is more than 300 s behind the last charge.
            PrivacyPlanError: the institution has no cap for the partition.
            LedgerCorruptError: somebody else wrote to the journal, or undid what this ledger wrote.
            StorageError: the charge could not be written.
        """
        with self._lock, self._record.storage_errors():
            self._record.check_sole_writer()
            before = self._record.charged(release.release_id)
            # As releases: an old ledger holds the bytes of an older version.
            if before is not None and before != release:
                raise ReleaseConflictError(release=release.release_id)
            if before is None:
                self._charge(release, plan_digest)
            return Reservation(release, repeated=before is not None, issuer=_ISSUED_BY_A_LEDGER)

    def charges(self, *, run: str, partition: str, kind: str | None = None) -> int:
        """Return how many releases of a run were charged to ``partition``, of one kind or of all.

        Ids are "run/round/attempt/kind"; the kinds are train, prepare and evaluate.
        """
        return self._record.charges(run=run, partition=partition, kind=kind)

    def spent(self, partition: str) -> Spending:
        """Return what ``partition`` has spent so far.

        Raises:
            PrivacyPlanError: the partition has neither a charge nor a cap, so it has no delta either.
        """
        known = self._record.spent(partition)
        if known is None:
            raise _no_budget(partition)
        return known

    def spent_by_run(self, partition: str) -> Mapping[str, Spending]:
        """Return what each run has spent of ``partition``, in the order of their first charges."""
        return self._record.spent_by_run(partition)

    def amend(self, partition: str, *, epsilon: float, approvers: Sequence[str], reason: str) -> None:
        """Set the cap of ``partition`` durably, on the word of at least two people; delta never changes.

        A cap that the ledger holds already is no amendment and adds no entry, so a crash before node.toml was written
        is repaired by asking again. A higher cap counts once node.toml names it too.

        Raises:
            AmendmentError: fewer than two different names, no reason, a cap below what is spent, or no such partition.
            LedgerCorruptError, StorageError: as ``reserve``.
        """
        with self._lock, self._record.storage_errors():
            self._record.check_sole_writer()
            amended = CapAmended(
                time=self._now(),
                partition=partition,
                epsilon=epsilon,
                approvers=tuple(tidy(name) for name in approvers),
                reason=tidy(reason),
            )
            if self._cap_to_amend(partition, epsilon) != epsilon:
                self._write(AMENDED_KIND, amended)

    def history(self) -> Iterator[LedgerEntry]:
        """Yield what the entries say, oldest first.

        Raises:
            LedgerCorruptError: one is missing, or was changed since the ledger was opened.
        """
        return self._record.entries()

    def _charge(self, release: Release, plan_digest: bytes) -> None:
        self._check_allowed(release)
        self._check_budget(release)
        now = self._now()
        behind = (self._record.latest_charge or 0) - now
        if behind > CLOCK_TOLERANCE_S:
            raise ClockSetBackError(seconds=behind)
        delta = self.spent(release.partition).delta
        self._write(CHARGE_KIND, Charge(release=release, delta=delta, plan=plan_digest, time=now))

    def _check_allowed(self, release: Release) -> None:
        if release.mechanism is Mechanism.NONE and not self._allow_no_privacy:
            raise PrivacyOffRefusedError
        if release.test_noise and not self._allow_fixed_noise:
            raise FixedNoiseRefusedError

    def _check_budget(self, release: Release) -> None:
        cap = self.caps.get(release.partition)
        if cap is None:
            raise _no_budget(release.partition)
        if not release.protects:
            return
        spent = self.spent(release.partition)
        spent.require_one_price(release)
        would_be = spent.after(release).epsilon
        if would_be > cap.epsilon:
            raise BudgetExhaustedError(
                release=release.release_id,
                partition=release.partition,
                spent=spent.epsilon,
                would_be=would_be,
                cap=cap.epsilon,
            )

    def _cap_to_amend(self, partition: str, epsilon: float) -> float:
        """Return the epsilon that the ledger holds as the cap of ``partition``.

        Raises:
            AmendmentError: there is no such cap, or ``epsilon`` can be none.
        """
        held = self._record.caps.get(partition)
        if held is None:
            raise AmendmentError(problem=f"the ledger has no cap for the partition {partition}")
        try:
            check_epsilon(epsilon)
        except PrivacyPlanError as error:
            raise AmendmentError(problem=str(error.fields["problem"])) from error
        spent = self.spent(partition).epsilon
        if epsilon < spent:
            raise AmendmentError(problem=f"{spent:.4f} is spent, more than {epsilon:g}")
        return held.epsilon

    def _write(self, kind: str, said: LedgerEntry) -> None:
        self._record.remember(self._journal.append(kind, said.to_bytes()), said)

    def _now(self) -> int:
        return min(max(0, math.floor(self._clock())), LARGEST_TIME)


def _no_budget(partition: str) -> PrivacyPlanError:
    return PrivacyPlanError(problem=f"this institution has no budget for the partition {partition}")
