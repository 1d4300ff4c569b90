"""Someone between the members and an honest server: own keys in the middle, nobody notices, the sum stays exact."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from attacks.secagg_plus.masks import (
    masked_vector,
    opened,
    pair_mask,
    pair_secret,
    put_masked_vector,
    records_of,
)
from attacks.secagg_plus.target import Residues
from flwr.app import Message
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt
from flwr.common.secure_aggregation.secaggplus_constants import Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_separate
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes, public_key_to_bytes


@dataclass(frozen=True)
class ForgedKeys:
    """Two key pairs of the attacker's, as PEM text: for masks and for sealing shares."""

    masking: bytes
    masking_public: bytes
    sealing: bytes
    sealing_public: bytes

    @classmethod
    def draw(cls) -> ForgedKeys:
        pairs = [generate_key_pairs(), generate_key_pairs()]
        texts = [
            text for private, public in pairs for text in (private_key_to_bytes(private), public_key_to_bytes(public))
        ]
        return cls(*texts)

    @property
    def public(self) -> list[bytes]:
        return [self.masking_public, self.sealing_public]


@dataclass
class SwappingRelay:
    """Swaps the keys between ``victim`` and everybody else, and reseals and repairs what passes."""

    victim: int
    real: dict[int, list[bytes]] = field(default_factory=dict)
    as_seen_by_victim: defaultdict[int, ForgedKeys] = field(default_factory=lambda: defaultdict(ForgedKeys.draw))
    victim_as_seen: ForgedKeys = field(default_factory=ForgedKeys.draw)
    seed_shares: set[bytes] = field(default_factory=set)

    def towards(self, node: int, message: Message) -> None:
        """Rewrite ``message`` on its way from the server to ``node``."""
        records = records_of(message)
        if records[Key.STAGE] == Stage.SHARE_KEYS:
            for owner in [int(name) for name in records if name != Key.STAGE]:
                if (owner == self.victim) != (node == self.victim):
                    forged = self.victim_as_seen if owner == self.victim else self.as_seen_by_victim[owner]
                    records[str(owner)] = forged.public

    def back(self, node: int, reply: Message) -> None:
        """Rewrite ``reply`` on its way from ``node`` to the server."""
        records = records_of(reply)
        if Key.PUBLIC_KEY_1 in records:
            self.real[node] = [records[Key.PUBLIC_KEY_1], records[Key.PUBLIC_KEY_2]]
        elif Key.DESTINATION_LIST in records:
            self._reseal(node, reply)
        elif Key.MASKED_PARAMETERS in records and node == self.victim:
            put_masked_vector(reply, self._repaired(masked_vector(reply)))

    def _reseal(self, node: int, reply: Message) -> None:
        records = records_of(reply)
        boxes = list(records[Key.CIPHERTEXT_LIST])
        for place, reader in enumerate(records[Key.DESTINATION_LIST]):
            if node == self.victim:
                forged_reader, forged_sender = self.as_seen_by_victim[reader], self.victim_as_seen
            elif reader == self.victim:
                forged_reader, forged_sender = self.victim_as_seen, self.as_seen_by_victim[node]
            else:
                continue
            plain = decrypt(pair_secret(forged_reader.sealing, self.real[node][1]), boxes[place])
            boxes[place] = encrypt(pair_secret(forged_sender.sealing, self.real[reader][1]), plain)
            if node == self.victim:
                self.seed_shares.add(share_keys_plaintext_separate(plain)[2])
        records[Key.CIPHERTEXT_LIST] = boxes

    def victims_pair_masks(self, size: int) -> Residues:
        """Return the sum of all pair masks in the victim's upload."""
        return self._pair_masks(size, towards_victim=True)

    def victims_seed(self, threshold: int) -> bytes | None:
        """Return the victim's own seed once enough of its shares have passed."""
        return opened(self.seed_shares, threshold)

    def _repaired(self, residues: Residues) -> Residues:
        """Return the upload that the victim would have sent, had the others' masks been made with its own key."""
        size = len(residues)
        return residues - self._pair_masks(size, towards_victim=True) + self._pair_masks(size, towards_victim=False)

    def _pair_masks(self, size: int, *, towards_victim: bool) -> Residues:
        total = np.zeros(size, np.uint32)
        for other, forged in self.as_seen_by_victim.items():
            if towards_victim:
                secret = pair_secret(forged.masking, self.real[self.victim][0])
            else:
                secret = pair_secret(self.victim_as_seen.masking, self.real[other][0])
            total += pair_mask(secret, size, node=self.victim, other=other)
        return total
