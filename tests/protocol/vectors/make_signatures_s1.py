"""Write ``signatures_s1.json``: one signature of each kind made by this version, with the seeds behind them.

Run it only for a new suite. The file must never change for an old one: what was signed to last would no longer verify.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.signatures import sign, sign_lasting

SEEDS = {
    "signing": bytes(range(32)),
    "signing_post_quantum": bytes(range(32, 64)),
    "kem_classic": bytes(range(64, 96)),
    "kem_post_quantum": bytes(range(96, 160)),
}
TAG = "vector"
BODY = b"a vector of suite S1"


def main() -> None:
    keys = IdentityKeys(**SEEDS)
    content = {
        "seeds": {name: seed.hex() for name, seed in SEEDS.items()},
        "identity": keys.public.to_bytes().hex(),
        "tag": TAG,
        "body": BODY.hex(),
        "signature": sign(keys, tag=TAG, body=BODY).hex(),
        "lasting": sign_lasting(keys, tag=TAG, body=BODY).hex(),
    }
    path = Path(__file__).with_name("signatures_s1.json")
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
