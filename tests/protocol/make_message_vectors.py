"""Write ``vectors/messages.json``: golden bytes of every wire message, and bytes that must never decode.

The bytes are made with cbor2 alone, not with fedcredit, so they are a second opinion on our encoding. Golden vectors of
a released wire version never change: peers of that version still send them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2

WIRE_VERSION = 2
DIGEST = bytes(range(32))
SIGNATURE = bytes(range(64))
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
    },
    "request": {
        "manifest": b"manifest",
        "signature": SIGNATURE,
        "weights": bytes(8),
        "plan": b"",
        "roster": b"\x80",
    },
    "train-answer": {
        "manifest_digest": DIGEST,
        "ledger_head": DIGEST[::-1],
        "lanes": bytes.fromhex("01000000ffffffff"),
    },
    "counts-answer": {"manifest_digest": DIGEST, "ledger_head": bytes(32), "lanes": b""},
    "refusal": {"manifest_digest": DIGEST, "ledger_head": DIGEST, "code": "FC-4101"},
    "signed": {"body": b"body", "signature": SIGNATURE},
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
    ("request", "manifest", "manifest"),
    ("request", "signature", SIGNATURE[:-1]),
    ("request", "signature", SIGNATURE + b"\0"),
    ("request", "weights", []),
    ("request", "plan", None),
    ("request", "roster", [1]),
    ("train-answer", "manifest_digest", b""),
    ("train-answer", "ledger_head", bytes(31)),
    ("train-answer", "ledger_head", None),
    ("train-answer", "lanes", [1, -1]),
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
    ("invitation", "consortium", "x" * 42),
    ("invitation", "consortium", "\x1b[2J"),
    ("invitation", "signature", bytes(65)),
    ("invitation", "coordinator", bytes(4097)),
    ("invitation", "relay", ""),
    ("join-request", "kind", "spy"),
    ("join-request", "kind", ["bank"]),
    ("join-request", "kind", {}),
    ("join-request", "signature", bytes(65)),
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
        cases[f"{tag}: version 3"] = tag, canonical(body(tag, version=3))
        cases[f"{tag}: version true"] = tag, canonical(body(tag, version=True))
        cases[f"{tag}: version as text"] = tag, canonical(body(tag, version="2"))
        cases[f"{tag}: no version"] = tag, canonical(without(tag, "version"))
        cases[f"{tag}: no type"] = tag, canonical(without(tag, "type"))
        cases[f"{tag}: a type of no message"] = tag, canonical({**body(tag), "type": "letter"})
        cases[f"{tag}: a type that is a list"] = tag, canonical({**body(tag), "type": [tag]})
        cases[f"{tag}: a field is missing"] = tag, canonical(without(tag, next(iter(GOLDEN[tag]))))
        cases[f"{tag}: one byte follows"] = tag, whole + b"\0"
        cases[f"{tag}: the last byte is missing"] = tag, whole[:-1]
        cases[f"{tag}: twice in a row"] = tag, whole + whole
        cases[f"{tag}: keys in the order of the class"] = tag, cbor2.dumps(body(tag))
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
