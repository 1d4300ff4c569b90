"""Write ``sealed_s1.json``: a seal made by this version, with the keys and the context that open it.

Run it only for a new suite. The file must never change for an old one: seals in flight would no longer open.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SealContext, seal

SEEDS = {"signing": bytes(range(32)), "kem_classic": bytes(range(32, 64)), "kem_post_quantum": bytes(range(64, 128))}
CONTEXT = {
    "consortium": "credit",
    "run": "run-1",
    "round_number": 3,
    "attempt": 1,
    "message_type": "upload",
    "sender": "bank-1",
    "recipient": "coordinator",
}
PLAINTEXT = b"a vector of suite S1"


def main() -> None:
    keys = IdentityKeys(**SEEDS, signing_post_quantum=bytes(32))  # younger than the file; a seal does not depend on it
    context = SealContext(**CONTEXT, manifest_digest=bytes(range(32)))
    content = {
        "seeds": {name: seed.hex() for name, seed in SEEDS.items()},
        "context": {**CONTEXT, "manifest_digest": bytes(range(32)).hex()},
        "info": context.to_bytes().hex(),
        "plaintext": PLAINTEXT.hex(),
        "sealed": seal(PLAINTEXT, recipient=keys.public, context=context).hex(),
    }
    path = Path(__file__).with_name("sealed_s1.json")
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
