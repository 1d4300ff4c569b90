from __future__ import annotations

import hashlib
import hmac
from itertools import permutations
from pathlib import Path

import pytest

from fedcredit.crypto.tokens import IdentifierKind, TokenKey, make_contribution, read_contribution
from fedcredit.errors import AlreadyExistsError, KeyFileError

KEY = TokenKey(bytes(range(32)))
PARTS = (b"a" * 32, b"b" * 32, b"c" * 32)


def test_a_token_is_the_hmac_that_another_implementation_gives() -> None:
    message = b"fedcredit token 1\0person\x0011010519491231002X"
    expected = hmac.digest(bytes(range(32)), message, "sha256").hex()
    assert KEY.token(IdentifierKind.PERSON, "11010519491231002X") == expected


def test_a_token_is_no_plain_hash_and_differs_by_kind_and_key() -> None:
    number = "11010519491231002X"
    plain = {hashlib.new(method, number.encode()).hexdigest() for method in ("sha256", "sha3_256", "blake2s")}
    tokens = {KEY.token(kind, number) for kind in IdentifierKind} | {
        TokenKey(b"k" * 32).token(IdentifierKind.PERSON, number)
    }
    assert len(tokens) == 4
    assert not tokens & plain


def test_all_members_get_the_same_key_whatever_the_order_of_contributions() -> None:
    fingerprints = {TokenKey.combine(order).fingerprint() for order in permutations(PARTS)}
    assert len(fingerprints) == 1
    assert TokenKey.combine((*PARTS, PARTS[0])).fingerprint() in fingerprints  # a file collected twice


def test_every_contribution_changes_the_key() -> None:
    assert TokenKey.combine(PARTS).fingerprint() != TokenKey.combine(PARTS[:2]).fingerprint()


@pytest.mark.parametrize("parts", [(), PARTS[:1], (PARTS[0], PARTS[0]), (PARTS[0], b"short")])
def test_nobody_makes_the_key_alone(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="two different contributions"):
        TokenKey.combine(parts)


def test_a_key_file_comes_back_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert TokenKey.load(path).fingerprint() == KEY.fingerprint()
    with pytest.raises(AlreadyExistsError):
        TokenKey(b"k" * 32).save(path)
    assert TokenKey.load(path).fingerprint() == KEY.fingerprint()


def test_two_contributions_are_never_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_contribution(tmp_path / name)
    assert read_contribution(tmp_path / "one") != read_contribution(tmp_path / "two")


@pytest.mark.parametrize("text", ["", "fedcredit token key 1\n", "fedcredit token key 1\n" + "zz" * 32 + "\n", "\xff"])
def test_a_file_that_is_no_key_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token.key"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        TokenKey.load(path)
    assert "zz" not in str(caught.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="0600"):
        TokenKey.load(path)
    with pytest.raises(KeyFileError, match="is no fedcredit token contribution"):
        path.chmod(0o600)
        read_contribution(path)


def test_a_key_of_another_length_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        TokenKey(b"short")
