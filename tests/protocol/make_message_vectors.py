"""Write ``vectors/messages.json``: golden bytes of every wire message, and bytes that must never decode.

The bytes are made with cbor2 alone, not with fedcredit, so they are a second opinion on our encoding. Golden vectors of
a released wire version never change: peers of that version still send them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2

WIRE_VERSION = 4
DIGEST = bytes(range(32))
SIGNATURE = bytes(range(64))
LASTING_SIGNATURE = bytes(index % 251 for index in range(64 + 3309))
EPOCH_KEY = bytes(index % 249 for index in range(32 + 1184))
COSIGNATURE = "\u2014 bank-a c2lnbmF0dXJl\n"
GOLDEN: dict[str, dict[str, Any]] = {
    "manifest": {
        "consortium": "credit",
        "run": "20260301T120000-first-00c0ffee",
        "round": 3,
        "attempt": 1,
        "purpose": "train",
        "plan_digest": DIGEST,
        "roster_digest": DIGEST[::-1],
        "weights_digest": bytes(32),
        "cohort": ["bank-a", "fund-b"],
        "ledger_heads": [bytes(32), DIGEST],
        "quorum": 2,
        "deadline": 1772366400,
        "epoch": DIGEST,
        "step": 4,
        "log_size": 17,
        "log_root": DIGEST[::-1],
        "release": 12,
        "radii": [300, 600, 0, 2**62],
    },
    "request": {
        "manifest": b"manifest",
        "signature": LASTING_SIGNATURE,
        "stage": "upload",
        "answer_length": 2048,
        "body": b"body",
        "plan": b"",
        "roster": b"\x80",
    },
    "log-proof": {"size": 3, "path": [DIGEST, DIGEST[::-1]]},
    "round-body": {
        "weights": bytes(8),
        "release": b"entry",
        "release_path": [DIGEST],
        "log_proofs": [b"proof", b""],
        "roots": [],
    },
    "train-answer": {
        "manifest_digest": DIGEST,
        "ledger_head": DIGEST[::-1],
        "cosignature": COSIGNATURE,
        "lanes": bytes.fromhex("01000000ffffffff"),
    },
    "counts-answer": {"manifest_digest": DIGEST, "ledger_head": bytes(32), "cosignature": COSIGNATURE, "lanes": b""},
    "close-answer": {
        "manifest_digest": DIGEST,
        "ledger_head": DIGEST,
        "cosignature": COSIGNATURE,
        "vote": "no",
        "reason": "below-floor",
    },
    "refusal": {"manifest_digest": DIGEST, "ledger_head": DIGEST, "code": "FC-4101"},
    "signed": {"body": b"body", "signature": SIGNATURE},
    "epoch-key": {"setup": DIGEST, "member": "bank-a", "key": EPOCH_KEY, "signature": LASTING_SIGNATURE},
    "epoch-hello": {"manifest_digest": DIGEST, "key": b"key", "channel": DIGEST[::-1]},
    "epoch-boxes": {"epoch": DIGEST, "bulk_digest": DIGEST[::-1]},
    "upload": {
        "manifest_digest": DIGEST,
        "ledger_head": DIGEST[::-1],
        "cosignature": COSIGNATURE,
        "commitments": [bytes(32), DIGEST],
        "bulk_digest": DIGEST,
    },
    "selection": {
        "manifest_digest": DIGEST,
        "members": ["bank-a", "fund-b"],
        "uploads": [DIGEST, DIGEST[::-1]],
        "signatures": [SIGNATURE, SIGNATURE[::-1]],
    },
    "accept": {"manifest_digest": DIGEST, "selection": DIGEST[::-1]},
    "reveal": {"manifest_digest": DIGEST, "selection": DIGEST[::-1], "bulk_digest": bytes(32)},
    "keys-body": {"channel": DIGEST},
    "roots-body": {"keys": [b"key", b""]},
    "accept-body": {"selection": b"selection", "signature": SIGNATURE},
    "reveal-body": {
        "selection": DIGEST,
        "members": ["bank-a"],
        "signatures": [SIGNATURE],
        "boxes": [b"", b"box"],
    },
    "invitation": {
        "consortium": "credit",
        "coordinator": b"identity",
        "relay": "relay:9092",
        "ca_certificate": b"pem",
        "signature": SIGNATURE,
    },
    "join-request": {
        "consortium": "credit",
        "institution": "bank-a",
        "kind": "bank",
        "identity": b"identity",
        "supernode_key": b"ssh",
        "schemas": [1, 2],
        "signature": SIGNATURE,
    },
}


def body(tag: str, **changes: Any) -> dict[str, Any]:
    return {"type": tag, "version": WIRE_VERSION, **GOLDEN[tag], **changes}


def without(tag: str, *names: str) -> dict[str, Any]:
    return {name: value for name, value in body(tag).items() if name not in names}


def canonical(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


BAD_FIELDS: list[tuple[str, str, Any]] = [
    ("manifest", "consortium", ""),
    ("manifest", "consortium", "x" * 64),
    ("manifest", "consortium", b"credit"),
    ("manifest", "consortium", "e\u0301"),
    ("manifest", "run", None),
    ("manifest", "round", -1),
    ("manifest", "round", 2**53 + 1),
    ("manifest", "round", True),
    ("manifest", "round", 3.0),
    ("manifest", "round", "3"),
    ("manifest", "attempt", [1]),
    ("manifest", "purpose", "spy"),
    ("manifest", "purpose", ["train"]),
    ("manifest", "purpose", {"train": 1}),
    ("manifest", "purpose", None),
    ("manifest", "plan_digest", bytes(31)),
    ("manifest", "roster_digest", bytes(33)),
    ("manifest", "weights_digest", "0" * 32),
    ("manifest", "cohort", ["bank-a", "bank-a"]),
    ("manifest", "cohort", ["bank-a", ["fund-b"]]),
    ("manifest", "cohort", ["bank-a", {"fund-b": 1}]),
    ("manifest", "cohort", [""]),
    ("manifest", "cohort", ["x" * 64]),
    ("manifest", "cohort", "bank-a"),
    ("manifest", "cohort", {"bank-a": 1}),
    ("manifest", "ledger_heads", bytes(32)),
    ("manifest", "ledger_heads", [bytes(31)]),
    ("manifest", "ledger_heads", [bytes(32), bytes(33)]),
    ("manifest", "ledger_heads", [bytes(32), "0" * 32]),
    ("manifest", "ledger_heads", [bytes(32), [bytes(32)]]),
    ("manifest", "ledger_heads", {"bank-a": bytes(32)}),
    ("manifest", "ledger_heads", None),
    ("manifest", "quorum", None),
    ("manifest", "deadline", 1.5),
    ("manifest", "epoch", bytes(31)),
    ("manifest", "epoch", None),
    ("manifest", "step", -1),
    ("manifest", "step", 2**53 + 1),
    ("manifest", "log_size", True),
    ("manifest", "log_root", bytes(33)),
    ("manifest", "release", -1),
    ("manifest", "release", "12"),
    ("request", "manifest", "manifest"),
    ("request", "signature", LASTING_SIGNATURE[:-1]),
    ("request", "signature", LASTING_SIGNATURE + b"\0"),
    ("request", "signature", SIGNATURE),
    ("request", "stage", "spy"),
    ("request", "stage", ["upload"]),
    ("request", "stage", None),
    ("request", "answer_length", -1),
    ("request", "answer_length", 2**28 + 1),
    ("request", "answer_length", True),
    ("request", "body", []),
    ("request", "plan", None),
    ("request", "roster", [1]),
    ("train-answer", "manifest_digest", b""),
    ("train-answer", "ledger_head", bytes(31)),
    ("train-answer", "ledger_head", None),
    ("train-answer", "lanes", [1, -1]),
    ("train-answer", "cosignature", ""),
    ("train-answer", "cosignature", "x" * 257),
    ("train-answer", "cosignature", b"bytes"),
    ("counts-answer", "ledger_head", bytes(33)),
    ("counts-answer", "lanes", "0000"),
    ("refusal", "ledger_head", "0" * 32),
    ("refusal", "ledger_head", b""),
    ("refusal", "code", "FC-410"),
    ("refusal", "code", "FC-41011"),
    ("refusal", "code", "FC-41a1"),
    ("refusal", "code", "FC-\n\n\n\n"),
    ("refusal", "code", "FC-\u0661\u0662\u0663\u0664"),
    ("refusal", "code", b"FC-4101"),
    ("signed", "body", "body"),
    ("signed", "signature", b""),
    ("log-proof", "size", -1),
    ("log-proof", "path", [bytes(31)]),
    ("log-proof", "path", [bytes(32)] * 65),
    ("round-body", "weights", [0.5]),
    ("round-body", "release_path", [bytes(32)] * 65),
    ("round-body", "log_proofs", ["proof"]),
    ("round-body", "log_proofs", b"proof"),
    ("close-answer", "cosignature", None),
    ("close-answer", "vote", "perhaps"),
    ("close-answer", "vote", ""),
    ("close-answer", "vote", ["yes"]),
    ("close-answer", "reason", ""),
    ("close-answer", "reason", "x" * 41),
    ("manifest", "radii", [-1]),
    ("manifest", "radii", [True]),
    ("manifest", "radii", [2**62 + 1]),
    ("manifest", "radii", ["1"]),
    ("manifest", "radii", 1),
    ("epoch-key", "setup", bytes(31)),
    ("epoch-key", "member", ""),
    ("epoch-key", "key", EPOCH_KEY[:-1]),
    ("epoch-key", "key", EPOCH_KEY + b"\0"),
    ("epoch-key", "signature", b""),
    ("epoch-key", "signature", SIGNATURE),
    ("epoch-hello", "manifest_digest", bytes(31)),
    ("epoch-hello", "key", "key"),
    ("epoch-hello", "channel", bytes(31)),
    ("epoch-hello", "channel", bytes(33)),
    ("keys-body", "channel", b""),
    ("keys-body", "channel", None),
    ("epoch-boxes", "epoch", "epoch"),
    ("epoch-boxes", "bulk_digest", b""),
    ("upload", "commitments", [bytes(31)]),
    ("upload", "commitments", bytes(32)),
    ("upload", "bulk_digest", bytes(33)),
    ("selection", "members", ["bank-a", "bank-a"]),
    ("selection", "members", "bank-a"),
    ("selection", "uploads", [bytes(31)]),
    ("selection", "signatures", [SIGNATURE[:-1]]),
    ("selection", "signatures", SIGNATURE),
    ("selection", "signatures", [None]),
    ("accept", "selection", b""),
    ("reveal", "bulk_digest", None),
    ("roots-body", "keys", [1]),
    ("accept-body", "selection", "selection"),
    ("accept-body", "signature", SIGNATURE + b"\0"),
    ("reveal-body", "selection", bytes(33)),
    ("reveal-body", "members", [b"bank-a"]),
    ("reveal-body", "signatures", [SIGNATURE + b"\0"]),
    ("reveal-body", "boxes", {}),
    ("invitation", "consortium", "x" * 42),
    ("invitation", "consortium", "\x1b[2J"),
    ("invitation", "signature", bytes(3374)),
    ("invitation", "coordinator", bytes(4097)),
    ("invitation", "relay", ""),
    ("join-request", "kind", "spy"),
    ("join-request", "kind", ["bank"]),
    ("join-request", "kind", {}),
    ("join-request", "signature", bytes(3374)),
    ("join-request", "schemas", 1),
    ("join-request", "schemas", [-1]),
    ("join-request", "schemas", [True]),
    ("join-request", "schemas", [1] * 65),
]


def bad() -> dict[str, tuple[str, bytes]]:
    cases = {
        f"{tag}: {name} is {value!r:.40}": (tag, canonical(body(tag, **{name: value})))
        for tag, name, value in BAD_FIELDS
    }
    for tag in GOLDEN:
        whole = canonical(body(tag))
        cases[f"{tag}: an unknown field"] = tag, canonical(body(tag, surplus=1))
        cases[f"{tag}: version 0"] = tag, canonical(body(tag, version=0))
        cases[f"{tag}: version 1"] = tag, canonical(body(tag, version=1))
        cases[f"{tag}: version 2"] = tag, canonical(body(tag, version=2))
        cases[f"{tag}: version 3"] = tag, canonical(body(tag, version=3))
        cases[f"{tag}: version 5"] = tag, canonical(body(tag, version=5))
        cases[f"{tag}: version true"] = tag, canonical(body(tag, version=True))
        cases[f"{tag}: version as text"] = tag, canonical(body(tag, version="4"))
        cases[f"{tag}: no version"] = tag, canonical(without(tag, "version"))
        cases[f"{tag}: no type"] = tag, canonical(without(tag, "type"))
        cases[f"{tag}: a type of no message"] = tag, canonical({**body(tag), "type": "letter"})
        cases[f"{tag}: a type that is a list"] = tag, canonical({**body(tag), "type": [tag]})
        cases[f"{tag}: a field is missing"] = tag, canonical(without(tag, next(iter(GOLDEN[tag]))))
        cases[f"{tag}: one byte follows"] = tag, whole + b"\0"
        cases[f"{tag}: the last byte is missing"] = tag, whole[:-1]
        cases[f"{tag}: twice in a row"] = tag, whole + whole
        cases[f"{tag}: keys in another order"] = tag, cbor2.dumps(dict(reversed(cbor2.loads(whole).items())))
        cases[f"{tag}: inside a tag"] = tag, b"\xc0" + whole
        cases[f"{tag}: inside a list"] = tag, b"\x81" + whole
        cases[f"{tag}: as a map of indefinite length"] = tag, b"\xbf" + whole[1:] + b"\xff"
        cases[f"{tag}: nothing"] = tag, b""
    return cases


def vectors() -> dict[str, Any]:
    return {
        "golden": {tag: canonical(body(tag)).hex() for tag in GOLDEN},
        "bad": [{"case": case, "type": tag, "bytes": data.hex()} for case, (tag, data) in bad().items()],
    }


def main() -> None:
    path = Path(__file__).with_name("vectors") / "messages.json"
    path.write_text(json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
