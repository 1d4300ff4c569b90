"""A member's side of an epoch: one fresh key, one secret per neighbour, and then a root per pair that ratchets.

    EpochOffer     after E1: a key pair that nobody else has the private half of
    EpochPending   after E2: the secrets sent to the neighbours; the cohort is fixed
    EpochRoots     once the neighbours' secrets have come: one root per pair

All three are values with canonical bytes, so that a node stores them and goes on after a restart. A root is used for
one step and then replaced by what follows from it (``EpochRoots.at``): whoever steals a node's roots later cannot open
earlier rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from fedcredit.crypto.derivation import derive, derive_each
from fedcredit.crypto.epoch_keys import SECRET_LENGTH, SEED_LENGTH, EpochKeys, seal_secret
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import SIGNATURE_LENGTH, sign, sign_lasting, verify, verify_lasting
from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import EpochError, MalformedMessageError, StoreCorruptError, WrongContextError
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.wire import ROOT_BOX_LENGTH, EpochKey

EPOCH_KEY_TAG: Final = "fedcredit epoch key 1"
ROOT_BOX_TAG: Final = "fedcredit root box 1"
MOST_STEPS: Final = 10_000
"""Steps of one epoch, and so the most that a member which was away has to ratchet over."""

Entropy = Callable[[int], bytes]


def epoch_id(setup: bytes, keys: Sequence[EpochKey]) -> bytes:
    """Return the name of an epoch: the digest of its set-up's manifest and of every member's signed key."""
    return _epoch_id(setup, tuple(keys))


@lru_cache(maxsize=4)
def _epoch_id(setup: bytes, keys: tuple[EpochKey, ...]) -> bytes:
    """Compute a name once; in one process all members of an epoch have the same keys, and they are many."""
    return hashlib.sha256(encode([setup, [key.to_bytes() for key in keys]])).digest()


def require_keys(
    keys: Sequence[EpochKey], *, setup: bytes, identities: Mapping[str, PublicIdentity], smallest: int
) -> None:
    """Return if these are the keys of distinct members, in order, each signed for this set-up.

    Raises:
        WrongContextError: a key is for another set-up, of somebody else, or out of order; or there are too few.
        BadSignatureError: a member did not sign its key with both of its signature keys.
    """
    names = [key.member for key in keys]
    if names != sorted(set(names)) or len(names) < smallest:
        raise WrongContextError(what="list of epoch keys", field="cohort")
    for key in keys:
        if key.setup != setup or key.member not in identities:
            raise WrongContextError(what=f"epoch key of {key.member}", field="set-up or member")
    _require_signed(tuple(keys), tuple(identities[name] for name in names))


@lru_cache(maxsize=4)
def _require_signed(keys: tuple[EpochKey, ...], identities: tuple[PublicIdentity, ...]) -> None:
    """Return if each key is signed by its own identity; in one process all members of an epoch check the same list.

    Kept is that these very keys held under these very identities; what did not hold raises, and is checked every time.
    """
    for key, identity in zip(keys, identities, strict=True):
        verify_lasting(
            identity,
            tag=EPOCH_KEY_TAG,
            body=key.unsigned(),
            signature=key.signature,
            signer=key.member,
            what="epoch key",
        )


def require_boxes(
    boxes: Sequence[bytes], *, epoch: bytes, cohort: Cohort, sender: str, identity: PublicIdentity
) -> None:
    """Return if ``sender`` signed the box for each of its neighbours, in their order.

    Raises:
        BadSignatureError: one of them is not signed, or for somebody else.
    """
    for other, box in zip(cohort.neighbours[cohort.places[sender]], boxes, strict=True):
        context = _pair_context(epoch, sender=sender, recipient=cohort.names[other])
        sealed, signature = box[:-SIGNATURE_LENGTH], box[-SIGNATURE_LENGTH:]
        verify(identity, tag=ROOT_BOX_TAG, body=context + sealed, signature=signature, signer=sender, what="root box")


@dataclass(frozen=True)
class EpochOffer:
    """After E1."""

    setup: bytes
    seed: bytes
    """Of the key pair; it is forgotten with this value."""

    @classmethod
    def make(cls, *, setup: bytes, member: str, keys: IdentityKeys, entropy: Entropy) -> tuple[Self, EpochKey]:
        """Return the offer and the signed key to send."""
        pair = EpochKeys.generate(entropy)
        unsigned = EpochKey(setup=setup, member=member, key=pair.public, signature=b"")
        signature = sign_lasting(keys, tag=EPOCH_KEY_TAG, body=unsigned.to_bytes())
        return cls(setup, pair.seed), EpochKey(setup=setup, member=member, key=pair.public, signature=signature)

    def __repr__(self) -> str:
        return "EpochOffer()"


@dataclass(frozen=True)
class EpochPending:
    """After E2."""

    epoch: bytes
    cohort: Cohort
    place: int
    seed: bytes
    sent: tuple[bytes, ...]
    """The secret sent to each neighbour, in order."""

    @classmethod
    def make(
        cls,
        offer: EpochOffer,
        received: Sequence[EpochKey],
        *,
        member: str,
        threshold: int,
        keys: IdentityKeys,
        entropy: Entropy,
    ) -> tuple[Self, bytes]:
        """Return the state and the boxes to send; ``received`` has passed ``require_keys``.

        Raises:
            WrongContextError: the own key is missing or was exchanged.
            MalformedMessageError: a neighbour's key is none.
        """
        own = EpochKeys(offer.seed).public
        if not any(key.member == member and key.key == own for key in received):
            raise WrongContextError(what="list of epoch keys", field="own key")
        epoch = epoch_id(offer.setup, received)
        cohort = Cohort.of([key.member for key in received], seed=epoch, threshold=threshold)
        place = cohort.places[member]
        sent, boxes = [], []
        for other in cohort.neighbours[place]:
            secret = entropy(SECRET_LENGTH)
            context = _pair_context(epoch, sender=member, recipient=cohort.names[other])
            box = seal_secret(secret, to=received[other].key, info=context)
            sent.append(secret)
            boxes.append(box + sign(keys, tag=ROOT_BOX_TAG, body=context + box))
        return cls(epoch, cohort, place, offer.seed, tuple(sent)), b"".join(boxes)

    def complete(self, boxes: Sequence[bytes], *, identities: Mapping[str, PublicIdentity]) -> EpochRoots:
        """Return the roots that follow from every neighbour's box, in their order.

        Raises:
            MalformedMessageError: a box is missing or too many, or has another length.
            BadSignatureError, CannotOpenError: a box is not from its neighbour to this member in this epoch.
        """
        near, names = self.cohort.neighbours[self.place], self.cohort.names
        if len(boxes) != len(near) or any(len(box) != ROOT_BOX_LENGTH for box in boxes):
            raise MalformedMessageError(what="list of root boxes", problem="their number or a length is wrong")
        pair = EpochKeys(self.seed)
        roots = []
        for other, mine, box in zip(near, self.sent, boxes, strict=True):
            sender = names[other]
            context = _pair_context(self.epoch, sender=sender, recipient=names[self.place])
            sealed, signature = box[:-SIGNATURE_LENGTH], box[-SIGNATURE_LENGTH:]
            verify(
                identities[sender],
                tag=ROOT_BOX_TAG,
                body=context + sealed,
                signature=signature,
                signer=sender,
                what="root box",
            )
            theirs = pair.open(sealed, info=context, sender=sender)
            first, second = (mine, theirs) if self.place < other else (theirs, mine)
            pair_names = sorted([names[self.place], sender])
            roots.append(derive(first + second, label="pair root", context=[self.epoch, *pair_names]))
        return EpochRoots(self.epoch, self.cohort, self.place, 0, tuple(roots))

    def __repr__(self) -> str:
        return "EpochPending()"


@dataclass(frozen=True)
class EpochRoots:
    """One root per neighbour, as they are before ``step``."""

    epoch: bytes
    cohort: Cohort
    place: int
    step: int
    roots: tuple[bytes, ...]

    def at(self, step: int) -> EpochRoots:
        """Return the roots of a later step; those before it cannot be had from them.

        Raises:
            EpochError: the step is over, or beyond the epoch.
        """
        if step < self.step:
            raise EpochError(reason=f"step {step} is over, the keys are at {self.step}")
        if step > MOST_STEPS:
            raise EpochError(reason=f"an epoch ends after {MOST_STEPS} steps")
        roots = self.roots
        for passed in range(self.step, step):
            roots = tuple(derive_each(roots, label="ratchet", context=[self.epoch, passed]))
        return EpochRoots(self.epoch, self.cohort, self.place, step, roots)

    def keys(self, manifest_digest: bytes) -> PairKeys:
        """Return the keys of the attempt that ``manifest_digest`` names: other manifests have other keys."""
        masks, out, into = [], [], []
        blocks = derive_each(self.roots, label="round keys", context=manifest_digest, length=3 * SECRET_LENGTH)
        for other, block in zip(self.cohort.neighbours[self.place], blocks, strict=True):
            # The same block on both sides: a mask, a key for boxes to the later member, one for those to the earlier.
            mask, upwards, downwards = block[:32], block[32:64], block[64:]
            masks.append(mask)
            out.append(upwards if other > self.place else downwards)
            into.append(downwards if other > self.place else upwards)
        return PairKeys(masks=tuple(masks), boxes_out=tuple(out), boxes_in=tuple(into))

    def __repr__(self) -> str:
        return f"EpochRoots(step={self.step})"


@dataclass(frozen=True, repr=False)
class PairKeys:
    """Keys of one attempt, one of each kind per neighbour in order."""

    masks: tuple[bytes, ...]
    boxes_out: tuple[bytes, ...]
    boxes_in: tuple[bytes, ...]


def _pair_context(epoch: bytes, *, sender: str, recipient: str) -> bytes:
    return encode(["fedcredit pair secret", epoch, sender, recipient])


EpochState = EpochOffer | EpochPending | EpochRoots


def epoch_to_bytes(state: EpochState) -> bytes:
    """Return the canonical encoding of any of the three; it holds secrets."""
    if isinstance(state, EpochOffer):
        return encode(["offer", state.setup, state.seed])
    head: list[Encodable] = [state.epoch, list(state.cohort.names), state.cohort.threshold, state.place]
    if isinstance(state, EpochPending):
        return encode(["pending", *head, state.seed, list(state.sent)])
    return encode(["roots", *head, state.step, list(state.roots)])


def epoch_from_bytes(data: bytes) -> EpochState:
    """Return what ``epoch_to_bytes`` was given.

    Raises:
        StoreCorruptError: these bytes never came from it, although their parts may have the right types.
        MalformedMessageError, MessageTooLargeError: they are no canonical encoding of anything.
    """
    state: EpochState | None = None
    match decode(data, what="epoch state", limit=_STATE_LIMIT):
        case ["offer", bytes(setup), bytes(seed)] if len(seed) == SEED_LENGTH:
            state = EpochOffer(setup, seed)
        case ["pending", bytes(epoch), list(names), int(threshold), int(place), bytes(seed), list(sent)]:
            state = EpochPending(epoch, _cohort_of(names, epoch, threshold), int(place), seed, _secrets(sent))
        case ["roots", bytes(epoch), list(names), int(threshold), int(place), int(step), list(roots)]:
            cohort = _cohort_of(names, epoch, threshold)
            state = EpochRoots(epoch, cohort, int(place), int(step), _secrets(roots))
    if state is None or epoch_to_bytes(state) != data:
        raise StoreCorruptError(path="run memory", problem="the keys of an epoch do not decode")
    return state


_STATE_LIMIT: Final = 64 * 1024 * 1024


def _cohort_of(names: Sequence[object], epoch: bytes, threshold: int) -> Cohort:
    # True passes for an integer: as one it has another encoding, which the caller sees.
    return Cohort.of([str(name) for name in names], seed=epoch, threshold=int(threshold))


def _secrets(values: Sequence[object]) -> tuple[bytes, ...]:
    return tuple(value for value in values if isinstance(value, bytes))
