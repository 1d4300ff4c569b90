"""What an institution must not forget between messages: terms, keys of an epoch, the open round, the last answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fedcredit.audit.witness import FIRST_SIGHT, WitnessState
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.channels import Channel
from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError, PolicyError, ReplayError, StoreCorruptError, WrongContextError
from fedcredit.institution.holdings import split_name
from fedcredit.messages import Manifest, Purpose
from fedcredit.secagg.epoch import EpochState, epoch_from_bytes, epoch_to_bytes
from fedcredit.secagg.member import MemberRound
from fedcredit.store.database import Database
from fedcredit.store.records import Records

_ROUND_ORDER: Final = {Purpose.PREPARE: -1, Purpose.TRAIN: 0, Purpose.EVALUATE: 1, Purpose.CLOSE: 2}
_SPLIT_KEY: Final = "split"
_DIGEST_LENGTH: Final = 32
"""Of a request's digest, which stands before its stored answer."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an institution keeps of a run after its first request."""

    plan: RunPlan
    plan_digest: bytes
    plan_text: bytes
    """The plan as it was received."""
    roster_text: bytes
    """The roster as it was received; encoded, it says whose keys count."""
    roster_digest: bytes


class RunMemory:
    """Durable. What was read or written once stays in memory too: one process has the database to itself."""

    def __init__(self, database: Database, *, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._records = Records(database, "run-memory")
        self._read: dict[str, bytes | None] = {}
        self._answered: dict[str, bytes] = {}
        """Digest of the request that was answered last, by run; empty if there was none."""
        self._terms: dict[str, Terms] = {}
        self._epochs: dict[str, EpochState] = {}
        self._rounds: dict[str, MemberRound] = {}
        self._channels: dict[bytes, Channel] = {}

    def forget(self) -> None:
        """Drop what was read and written so far from memory, because a transaction was undone; the disk is right."""
        self._read.clear()
        self._answered.clear()
        self._terms.clear()
        self._epochs.clear()
        self._rounds.clear()
        self._channels.clear()

    def _get(self, key: str) -> bytes | None:
        if key not in self._read:
            self._read[key] = self._records.get(key)
        return self._read[key]

    def _put(self, key: str, value: bytes) -> None:
        self._records.put(key, value)
        self._read[key] = value

    # --- terms -------------------------------------------------------------------------------------------------------

    def terms(self, run: str) -> Terms | None:
        """Return the terms of a run that was taken up."""
        if run not in self._terms:
            stored = self._records.get(f"terms/{run}")
            if stored is None:
                return None
            self._terms[run] = _terms_from(stored)
        return self._terms[run]

    def take_up(self, run: str, terms: Terms) -> None:
        """Store the terms of a run, once; the same run never gets other terms."""
        known = self.terms(run)
        if known is not None and (known.plan_digest, known.roster_digest) != (terms.plan_digest, terms.roster_digest):
            raise WrongContextError(what="run", field="plan or roster")
        if known is None:
            self._use_plan(run, terms.plan_digest)
            value = encode({"plan": terms.plan_text, "roster": terms.roster_text, "digest": terms.roster_digest})
            # Not through _put: the encoded roster, 3 kB per member of the run, would stay in memory beside the terms.
            self._records.put(f"terms/{run}", value)
            self._terms[run] = terms

    def _use_plan(self, run: str, plan_digest: bytes) -> None:
        """Give a plan to one run only: an approval is for one training, not for as many as the coordinator likes."""
        key = f"plan/{plan_digest.hex()}"
        used = self._get(key)
        if used is not None and used != run.encode():
            raise PolicyError(reason="the plan was approved for one run, and another run has used it")
        self._put(key, run.encode())

    def require_split(self, plan: RunPlan) -> None:
        """Keep one split for the life of the ledger: two splits would mix training and held-out borrowers."""
        name = split_name(plan)
        stored = self._get(_SPLIT_KEY)
        if stored is None:
            self._put(_SPLIT_KEY, name)
        elif stored != name:
            raise PolicyError(reason="the plan splits borrowers differently from earlier runs on this data set")

    # --- answers -----------------------------------------------------------------------------------------------------

    def answer_to(self, request_digest: bytes, *, run: str) -> bytes | None:
        """Return the stored answer if this request was the last one answered in its run."""
        if self._answered.get(run, request_digest) != request_digest:
            return None
        stored = self._records.get(f"answer/{run}") or b""
        self._answered[run] = stored[:_DIGEST_LENGTH]
        return stored[_DIGEST_LENGTH:] if stored[:_DIGEST_LENGTH] == request_digest else None

    def require_new(self, manifest: Manifest) -> None:
        """Raise ``ReplayError`` unless this round and attempt come after everything answered in the run.

        The set-ups of epochs are counted for themselves.
        """
        last = self._get(_last_key(manifest))
        if last is not None and _order(manifest) <= _integers(last):
            raise ReplayError(round=manifest.round, attempt=manifest.attempt, reason="this round and attempt are over")

    def remember_place(self, manifest: Manifest) -> None:
        """Store that this round and attempt have begun; part of the caller's transaction."""
        self._put(_last_key(manifest), encode(list(_order(manifest))))

    def remember_answer(self, run: str, request_digest: bytes, answer: bytes) -> None:
        """Store an answer, in the caller's transaction, before it is sent: a repeated request gets the same bytes."""
        # Not through _put: an upload of many lanes would stay in memory, and it is hardly ever asked for again.
        self._records.put(f"answer/{run}", request_digest + answer)
        self._answered[run] = request_digest

    # --- secure aggregation ------------------------------------------------------------------------------------------

    def epoch(self, run: str) -> EpochState | None:
        """Return the keys of the run's epoch, as far as its set-up has come."""
        if run not in self._epochs:
            stored = self._records.get(f"epoch/{run}")
            if stored is None:
                return None
            self._epochs[run] = epoch_from_bytes(stored)
        return self._epochs[run]

    def keep_epoch(self, run: str, state: EpochState) -> None:
        """Replace the keys of the run's epoch; those before are gone. Part of the caller's transaction."""
        # Nor through _put: what was decoded is kept.
        self._records.put(f"epoch/{run}", epoch_to_bytes(state))
        self._epochs[run] = state

    def keep_channel(self, run: str, secret: bytes) -> None:
        """Replace the run's channel with the coordinator. Part of the caller's transaction."""
        old = self._get(f"channel-of/{run}")
        if old is not None:
            self._records.delete(f"channel/{old.hex()}")
            self._read.pop(f"channel/{old.hex()}", None)
            self._channels.pop(old, None)
        tag = Channel(secret, entropy=self._entropy).tag
        self._put(f"channel-of/{run}", tag)
        self._put(f"channel/{tag.hex()}", secret)

    def channel(self, tag: bytes) -> Channel | None:
        """Return the channel of this tag, if an epoch that is not over has made it."""
        if tag not in self._channels:
            secret = self._get(f"channel/{tag.hex()}")
            if secret is None:
                return None
            self._channels[tag] = Channel(secret, entropy=self._entropy)
        return self._channels[tag]

    def member_round(self, run: str) -> MemberRound | None:
        """Return the state of the last upload of the run."""
        if run not in self._rounds:
            stored = self._records.get(f"round/{run}")
            if stored is None:
                return None
            self._rounds[run] = MemberRound.from_bytes(stored)
        return self._rounds[run]

    def keep_round(self, run: str, state: MemberRound) -> None:
        """Replace the state of the last upload of the run. Part of the caller's transaction."""
        self._records.put(f"round/{run}", state.to_bytes())
        self._rounds[run] = state

    def opened(self, manifest: Manifest) -> tuple[tuple[str, ...], ...]:
        """Return the members of every selection that this institution has opened for the same round and purpose."""
        stored = self._get(f"opened/{manifest.run}")
        if stored is None:
            return ()
        place, selections = _opened(stored)
        return selections if place == (manifest.round, manifest.purpose) else ()

    def keep_opened(self, manifest: Manifest, members: Sequence[str]) -> None:
        """Store whose sum is about to be opened, beside those before. Part of the caller's transaction."""
        # All of the round, not the last: the third may be far from the second, and differ from the first by one member.
        selections = [list(names) for names in {*self.opened(manifest), tuple(members)}]
        self._put(f"opened/{manifest.run}", encode([manifest.round, manifest.purpose, sorted(selections)]))

    # --- the vote ----------------------------------------------------------------------------------------------------

    def table(self, run: str) -> bytes | None:
        """Return the encoded ``VotingTable`` that the institution votes on at the end of the run."""
        return self._get(f"table/{run}")

    def keep_table(self, run: str, table: bytes) -> None:
        """Replace it. Part of the caller's transaction."""
        self._put(f"table/{run}", table)

    # --- the coordinator's log ---------------------------------------------------------------------------------------

    def witnessed(self, run: str) -> WitnessState:
        """Return the head of the run's log that this institution cosigned last."""
        stored = self._get(f"log/{run}")
        return FIRST_SIGHT if stored is None else _witnessed(stored)

    def keep_witnessed(self, run: str, state: WitnessState) -> None:
        """Replace that head. Part of the caller's transaction."""
        self._put(f"log/{run}", state.to_bytes())


@lru_cache(maxsize=8)
def terms_of(plan_text: bytes, roster_text: bytes, roster_digest: bytes) -> Terms:
    """Return the terms that a plan's text states; in one process all institutions of a run get the same bytes."""
    try:
        text = plan_text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMessageError(what="run plan", problem="it is not UTF-8") from error
    plan = RunPlan.from_toml(text, source="the plan received")
    return Terms(
        plan=plan,
        plan_digest=plan.digest(),
        plan_text=plan_text,
        roster_text=roster_text,
        roster_digest=roster_digest,
    )


def _terms_from(stored: bytes) -> Terms:
    value = decode(stored, what="stored terms", limit=128 * 1024 * 1024)
    if not isinstance(value, dict):
        raise StoreCorruptError(path="run memory", problem="the terms of a run do not decode")
    plan_text, roster_text, roster_digest = (value.get(name) for name in ("plan", "roster", "digest"))
    if not isinstance(plan_text, bytes) or not isinstance(roster_text, bytes) or not isinstance(roster_digest, bytes):
        raise StoreCorruptError(path="run memory", problem="the terms of a run do not decode")
    return terms_of(plan_text, roster_text, roster_digest)


@lru_cache(maxsize=8)
def _opened(stored: bytes) -> tuple[tuple[int, str], tuple[tuple[str, ...], ...]]:
    """Return round, purpose and members of opened selections; in one process all members of a run store the same."""
    match decode(stored, what="stored selections", limit=16 * 1024 * 1024):
        case [int(number), str(purpose), list(selections)]:
            return (int(number), purpose), tuple(_names(members) for members in selections)
    raise StoreCorruptError(path="run memory", problem="the opened selections do not decode")


def _names(value: Encodable) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise StoreCorruptError(path="run memory", problem="the opened selections do not decode")
    return tuple(str(name) for name in value)


def _last_key(manifest: Manifest) -> str:
    return f"last-setup/{manifest.run}" if manifest.purpose == Purpose.SETUP else f"last/{manifest.run}"


def _order(manifest: Manifest) -> tuple[int, int, int]:
    return (manifest.round, _ROUND_ORDER.get(Purpose(manifest.purpose), 0), manifest.attempt)


@lru_cache(maxsize=8)
def _witnessed(stored: bytes) -> WitnessState:
    return WitnessState.from_bytes(stored)


@lru_cache(maxsize=8)
def _integers(data: bytes) -> tuple[int, ...]:
    value = decode(data, what="stored round", limit=256)
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise StoreCorruptError(path="run memory", problem="the last round does not decode")
    return tuple(value)
