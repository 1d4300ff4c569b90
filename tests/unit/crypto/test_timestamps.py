"""Time stamps of a log (RFC 3161): what holds, what does not, and that each part of a reply counts."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from timestamping import REJECTION, Authority, answer_query

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.crypto.timestamps import MOST_BYTES, Stamp, read_roots, stamp_query, verify_stamp
from fedcredit.errors import AnchorError, ConfigFileMissingError, ExtraMissingError

LOG = LogCheckpoint(origin="fedcredit.example/credit/run-1", size=42, root=bytes(range(32)))
AT = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)
AUTHORITY = Authority.make()


def text_of(log: LogCheckpoint) -> bytes:
    return log.to_text().encode()


def digest_of(log: LogCheckpoint) -> bytes:
    return hashlib.sha256(text_of(log)).digest()


def verified(folder: Path, reply: bytes, log: LogCheckpoint = LOG, *, pem: bytes = AUTHORITY.roots) -> Stamp:
    (folder / "reply.tsr").write_bytes(reply)
    (folder / "roots.pem").write_bytes(pem)
    return verify_stamp(folder / "reply.tsr", text_of(log), roots=read_roots(folder / "roots.pem"))


def test_the_query_asks_for_the_digest_of_the_checkpoint_and_the_reply_holds(tmp_path: Path) -> None:
    query = stamp_query(text_of(LOG))
    assert digest_of(LOG) in query
    assert query == stamp_query(text_of(LOG))
    found = verified(tmp_path, answer_query(AUTHORITY, query, AT))
    assert found == Stamp(time=AT, root="CN=Test Time Root")


def test_a_stamp_outlives_the_certificates_and_not_the_other_way_round(tmp_path: Path) -> None:
    # Valid in 2026: judged at the time of the stamp, whatever the clock says today.
    assert verified(tmp_path, AUTHORITY.stamp(digest_of(LOG), datetime(2026, 1, 2, tzinfo=UTC))).time.year == 2026
    for at in (datetime(2025, 12, 31, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)):
        with pytest.raises(AnchorError, match="not signed under"):
            verified(tmp_path, AUTHORITY.stamp(digest_of(LOG), at))


@pytest.mark.parametrize(
    "other",
    [
        LogCheckpoint(origin=LOG.origin, size=43, root=LOG.root),
        LogCheckpoint(origin=LOG.origin, size=42, root=bytes(32)),
        LogCheckpoint(origin="fedcredit.example/credit/run-2", size=42, root=LOG.root),
    ],
    ids=["length", "root", "run"],
)
def test_a_stamp_of_another_log_is_refused(tmp_path: Path, other: LogCheckpoint) -> None:
    with pytest.raises(AnchorError, match="something else than this log"):
        verified(tmp_path, AUTHORITY.stamp(digest_of(other), AT))


def test_an_authority_that_nobody_named_is_refused(tmp_path: Path) -> None:
    stranger = Authority.make("Test Time")
    with pytest.raises(AnchorError, match="not signed under any"):
        verified(tmp_path, stranger.stamp(digest_of(LOG), AT))
    assert verified(tmp_path, stranger.stamp(digest_of(LOG), AT), pem=AUTHORITY.roots + stranger.roots).time == AT


def test_no_bit_of_a_reply_changes_what_is_believed(tmp_path: Path) -> None:
    # A changed bit is refused, or lies where it says nothing (padding of encodings): never another time or log.
    reply = AUTHORITY.stamp(digest_of(LOG), AT)
    honest, refused = verified(tmp_path, reply), 0
    for place in range(0, len(reply), 3):
        bent = bytearray(reply)
        bent[place] ^= 1 << (place % 8)
        try:
            assert verified(tmp_path, bytes(bent)) == honest
        except AnchorError:
            refused += 1
    assert refused > len(reply) / 3 * 0.9


@pytest.mark.parametrize(
    "junk", [b"", b"\x30\x00", b"not a reply", b"\x30\x80" * 1000], ids=["nothing", "empty", "text", "deep"]
)
def test_what_is_no_reply_is_refused(tmp_path: Path, junk: bytes) -> None:
    with pytest.raises(AnchorError, match="not a time-stamp reply"):
        verified(tmp_path, junk)


def test_a_refusal_of_the_authority_is_no_stamp(tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match=r"refused the query|not a time-stamp reply"):
        verified(tmp_path, AUTHORITY.stamp(digest_of(LOG), AT, status=REJECTION))


def test_files_that_are_missing_or_huge_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError, match="absent"):
        read_roots(tmp_path / "absent.pem")
    with pytest.raises(AnchorError, match="no certificates"):
        verified(tmp_path, b"", pem=b"-----BEGIN NOTHING-----")
    with pytest.raises(AnchorError, match="more than"):
        verified(tmp_path, bytes(MOST_BYTES + 1))


def test_a_stamp_without_its_signature_s_time_is_not_believed_at_another(tmp_path: Path) -> None:
    reply = AUTHORITY.stamp(digest_of(LOG), AT)
    earlier = f"{AT - timedelta(days=30):%Y%m%d%H%M%SZ}".encode()
    with pytest.raises(AnchorError):
        verified(tmp_path, reply.replace(f"{AT:%Y%m%d%H%M%SZ}".encode(), earlier))


def test_without_the_extra_the_way_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    for errand in (lambda: stamp_query(b"text"), lambda: verify_stamp(tmp_path / "reply.tsr", b"text", roots=())):
        with pytest.raises(ExtraMissingError, match="time stamps") as caught:
            errand()
        assert "fedcredit[anchor]" in caught.value.fix("en")
