from __future__ import annotations

import itertools

from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline, LoopbackTransport, Reply

BANK, FUND = InstitutionId("bank"), InstitutionId("fund")


def test_a_deadline_counts_down_to_zero_and_no_further() -> None:
    now = [100.0]
    deadline = Deadline.after(5, clock=lambda: now[0])
    assert (deadline.remaining_s(), deadline.passed()) == (5.0, False)
    now[0] = 105.0
    assert (deadline.remaining_s(), deadline.passed()) == (0.0, True)
    now[0] = 500.0
    assert (deadline.remaining_s(), deadline.passed()) == (0.0, True)


def test_loopback_asks_everyone_in_order_and_names_the_unknown() -> None:
    transport = LoopbackTransport({BANK: lambda request: request + b"!"})
    replies = list(transport.exchange({FUND: b"a", BANK: b"b"}, deadline=Deadline.after(5, clock=lambda: 0.0)))
    assert replies == [
        Reply(institution=FUND, payload=None, carrier_error="no such institution"),
        Reply(institution=BANK, payload=b"b!"),
    ]


def test_loopback_asks_nobody_after_the_deadline() -> None:
    times = itertools.chain([0.0, 0.0], itertools.repeat(10.0))
    transport = LoopbackTransport({BANK: lambda request: request, FUND: lambda request: request})
    deadline = Deadline.after(5, clock=lambda: next(times))
    assert [reply.institution for reply in transport.exchange({BANK: b"", FUND: b""}, deadline=deadline)] == [BANK]
