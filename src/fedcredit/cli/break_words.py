"""The words of a demonstration (``fedcredit demo --break``): what somebody does, and what was checked.

A story names acts and checks; here each has its sentence, over the fields that were observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from fedcredit.cli.texts import tr

Fields = Mapping[str, Any]
Words = Mapping[str, Callable[[Fields], str]]

IDEAS: Final[Words] = {
    "replay": lambda _: tr(
        "The relay sends again what it has carried: a request of this round, an answer and shares of the last one."
    ),
    "poison": lambda _: tr(
        "A member sends what no honest program sends: a bit flipped after signing, numbers beyond the ring, false "
        "shares."
    ),
    "snoop": lambda _: tr("Relay and coordinator keep every message, and look in them for the numbers of one member."),
    "split": lambda _: tr(
        "The coordinator shows members different weights, different selections and different logs, all of them signed."
    ),
    "drop": lambda _: tr("Members disappear before their upload, after it, and when their shares are asked for."),
    "kill": lambda _: tr(
        "The coordinator is killed before it asks for shares, a member's node after its upload; both go on from disk."
    ),
}
"""What the attacker does, or what fails: one sentence."""

ACTS: Final[Words] = {
    # anybody
    "refuses": lambda _: tr("refuses"),
    "answers": lambda _: tr("ANSWERS, as if it were a true message"),
    "takes-it": lambda _: tr("TAKES it, as if it were a true answer"),
    "opens-sum": lambda f: tr(
        "opens the sum of round {round} over {members} members", round=f["round"], members=f["members"]
    ),
    "stops": lambda _: tr("stops, nothing was opened:"),
    "is-resumed": lambda f: tr("is resumed after round {round} and tries again", round=f["round"]),
    "gives-same-bytes": lambda f: tr("answers with the same {count:,} bytes as before", count=f["count"]),
    "gives-same-bytes-from-disk": lambda f: tr(
        "is back; asked again for its upload, it gives the same {count:,} bytes from its disk", count=f["count"]
    ),
    "gives-other-bytes": lambda _: tr("gives OTHER bytes than before"),
    # replay
    "sends-old-answer": lambda f: tr(
        "hands over the last round's upload of {institution} as that of round {round}",
        institution=f["institution"],
        round=f["round"],
    ),
    "sends-old-shares": lambda f: tr(
        "hands over the last round's shares of {institution} as those of round {round}",
        institution=f["institution"],
        round=f["round"],
    ),
    "repeats-old-upload-request": lambda f: tr("repeats the upload request of round {round}", round=f["round"]),
    "repeats-old-reveal-request": lambda f: tr("repeats the request for shares of round {round}", round=f["round"]),
    "answers-upload": lambda f: tr("answers the true upload request of round {round}", round=f["round"]),
    "repeats-upload-request": lambda f: tr("repeats that upload request of round {round} at once", round=f["round"]),
    "delivers-twice": lambda f: tr("hands over the upload of round {round} twice", round=f["round"]),
    "repeats-request-of-finished-round": lambda f: tr(
        "repeats the upload request of round {round}, which is over by now", round=f["round"]
    ),
    # poison
    "flips-a-sealed-bit": lambda f: tr(
        "flips a bit in the sealed upload of {institution}, round {round}",
        institution=f["institution"],
        round=f["round"],
    ),
    "flips-a-lane": lambda f: tr(
        "flips a bit of its masked numbers after it has signed them, round {round}", round=f["round"]
    ),
    "multiplies": lambda f: tr(
        "multiplies its numbers a thousand times beyond the ring, round {round}", round=f["round"]
    ),
    "cannot-encode": lambda _: tr("has no lanes for them"),
    "writes-nan": lambda _: tr("writes NaN into a message"),
    "has-no-nan": lambda _: tr("has no bytes for it: messages hold no floating-point numbers, lanes are integers"),
    "sends-wide-lanes": lambda f: tr("sends them in lanes of 64 bits, well signed, round {round}", round=f["round"]),
    "reveals-false-shares": lambda f: tr(
        "reveals {shares} false shares, well signed, round {round}", shares=f["shares"], round=f["round"]
    ),
    "blames": lambda f: tr(
        "finds them out by their commitments and blames {institution}", institution=f["institution"]
    ),
    "cannot-see-lies": lambda _: tr(
        "cannot see a lie inside the ring: masked numbers have no size. Bounds and votes limit it, not this protocol"
    ),
    # snoop
    "records-everything": lambda f: tr(
        "keeps all {messages} sealed messages, {octets:,} bytes", messages=f["messages"], octets=f["octets"]
    ),
    "opens-messages": lambda f: tr(
        "opens every message that it can open, and reads the upload of {institution} as numbers",
        institution=f["institution"],
    ),
    "finds-windows": lambda f: tr(
        "finds {count} pieces of the true numbers of {institution}", count=f["count"], institution=f["institution"]
    ),
    "takes-off-own-mask": lambda f: tr(
        "takes off the mask that the revealed shares open, and reads {institution} again", institution=f["institution"]
    ),
    "reads-open-run": lambda _: tr("does the same with a run whose plan says aggregation = open"),
    "reads-numbers": lambda f: tr(
        "reads {equal} of {lanes} numbers; correlation {correlation:+.2f}; chi-square {chi_square:,.1f} "
        "(uniform: about 15), p = {p:.2g}",
        equal=f["equal"],
        lanes=f["lanes"],
        correlation=f["correlation"],
        chi_square=f["chi_square"],
        p=f["p"],
    ),
    # split
    "swaps-weights": lambda f: tr(
        "sends {institution} other weights under the signed manifest of round {round}",
        institution=f["institution"],
        round=f["round"],
    ),
    "signs-other-weights": lambda f: tr(
        "signs a manifest of round {round} with these weights for {institution} alone",
        institution=f["institution"],
        round=f["round"],
    ),
    "shows-two-selections": lambda f: tr(
        "shows {first} the selection of all, and {second} one without {institution}",
        institution=f["institution"],
        first=f["first"],
        second=f["second"],
    ),
    "agrees": lambda _: tr("signs the one that it was shown"),
    "asks-to-agree-again": lambda f: tr(
        "asks {institution} to agree to the other selection, too", institution=f["institution"]
    ),
    "asks-shares-of-half": lambda f: tr(
        "asks {institution} for shares, with the agreements of its half", institution=f["institution"]
    ),
    "asks-shares-with-mixed-signatures": lambda f: tr(
        "asks {institution} again, with the agreements of both halves", institution=f["institution"]
    ),
    "asks-shares-of-other-selection": lambda f: tr(
        "asks {institution} for shares of the selection that it has not seen", institution=f["institution"]
    ),
    "forges-newest-entry": lambda f: tr(
        "forges the newest entry of its log for {institution} alone, so that it released other weights, round {round}",
        institution=f["institution"],
        round=f["round"],
    ),
    "answers-forged-log": lambda _: tr(
        "uploads under that manifest: nothing that it has cosigned so far contradicts the forged log"
    ),
    "adds-forked-upload": lambda f: tr("adds that upload of {institution} to the others", institution=f["institution"]),
    "cannot-add": lambda _: tr("cannot: it is bound to another manifest, and so are its masks"),
    "asks-to-agree-to-itself": lambda f: tr(
        "asks {institution} to agree to a selection of itself alone", institution=f["institution"]
    ),
    "shows-true-log-again": lambda f: tr("shows {institution} the true log again", institution=f["institution"]),
    # drop
    "is-lost-before-upload": lambda f: tr(
        "cannot be reached before the upload, round {round}, attempt {attempt}", round=f["round"], attempt=f["attempt"]
    ),
    "is-lost-after-upload": lambda f: tr("is gone after its upload, round {round}", round=f["round"]),
    "is-lost-at-reveal": lambda f: tr(
        "cannot be reached for shares, round {round}, attempt {attempt}", round=f["round"], attempt=f["attempt"]
    ),
    # kill
    "coordinator-is-killed": lambda f: tr(
        "is killed in round {round}, attempt {attempt}: the selection is signed, no share was asked for",
        round=f["round"],
        attempt=f["attempt"],
    ),
    "goes-on": lambda f: tr(
        "is opened from its disk: round {round} is released, and the one after begins again", round=f["round"]
    ),
    "node-is-killed": lambda f: tr(
        "its node is killed after the upload of round {round}, attempt {attempt}",
        round=f["round"],
        attempt=f["attempt"],
    ),
}
"""What somebody does."""

CHECKS: Final[Words] = {
    "same-bytes": lambda f: tr(
        "{institution} answers a repeated request with the same bytes", institution=f["institution"]
    ),
    "members-refuse": lambda f: tr("every old request is refused: {codes}", codes=f["codes"]),
    "coordinator-refuses": lambda f: tr("every old answer is refused: {codes}", codes=f["codes"]),
    "no-charge-for-repetitions": lambda f: tr(
        "repetitions cost nothing: {before} charges before them, {after} after", before=f["before"], after=f["after"]
    ),
    "charged-per-round": lambda f: tr(
        "every member is charged once per release: {charges} charges in all", charges=f["charges"]
    ),
    "counted-once": lambda f: tr(
        "the sum holds each of {members} members once, to the last unit", members=f["members"]
    ),
    "exact-sum": lambda f: tr(
        "round {round}: the sum over {members} members is exact in all {lanes} lanes",
        round=f["round"],
        members=f["members"],
        lanes=f["lanes"],
    ),
    "cannot-be-written": lambda f: tr(
        "{count} of 2 poisons cannot be written at all: numbers beyond the ring, and NaN", count=f["count"]
    ),
    "poison-refused": lambda f: tr(
        "both changed uploads of {institution} are refused: {codes}", institution=f["institution"], codes=f["codes"]
    ),
    "changed-on-the-way-refused": lambda f: tr(
        "the upload that was changed on the way is refused ({codes}), the true one counts", codes=f["codes"]
    ),
    "blamed-by-name": lambda f: tr(
        "the log blames {institution} and nobody else (blamed: {blamed})",
        institution=f["institution"],
        blamed=f["blamed"],
    ),
    "nothing-found": lambda f: tr(
        "{count} pieces of the numbers are in {messages} messages, in what was opened, and in the coordinator's folder",
        count=f["count"],
        messages=f["messages"],
    ),
    "upload-unreadable": lambda f: tr(
        "of the upload, {equal} of {lanes} numbers can be read", equal=f["equal"], lanes=f["lanes"]
    ),
    "upload-uniform": lambda f: tr(
        "the upload is uniform: chi-square {chi_square:,.1f}, p = {p:.2g}", chi_square=f["chi_square"], p=f["p"]
    ),
    "unmasked-unreadable": lambda f: tr(
        "without its own mask, {equal} of {lanes} numbers can be read", equal=f["equal"], lanes=f["lanes"]
    ),
    "unmasked-uniform": lambda f: tr(
        "without its own mask it is uniform, too: chi-square {chi_square:,.1f}, p = {p:.2g}",
        chi_square=f["chi_square"],
        p=f["p"],
    ),
    "attack-alive": lambda f: tr(
        "the attack works: with open aggregation it reads {equal} of {lanes} numbers",
        equal=f["equal"],
        lanes=f["lanes"],
    ),
    "every-lie-refused": lambda f: tr("every lie is refused: {codes}", codes=f["codes"]),
    "lies-charge-nothing": lambda f: tr(
        "lies about weights cost nothing: charges of {institution} are {before} before them, {after} after",
        institution=f["institution"],
        before=f["before"],
        after=f["after"],
    ),
    "no-share-left": lambda f: tr("{shares} shares left while the members were divided", shares=f["shares"]),
    "fork-stays-shut": lambda f: tr(
        "the upload under the forged log cannot be added, and {equal} of its {lanes} numbers can be read",
        equal=f["equal"],
        lanes=f["lanes"],
    ),
    "aborted-cleanly": lambda f: tr(
        "{count} attempts ended without a sum, and nothing of them was opened", count=f["count"]
    ),
    "model-unchanged": lambda f: tr(
        "all {attempts} attempts began with the same weights: a lost attempt changes nothing", attempts=f["attempts"]
    ),
    "every-attempt-charged": lambda f: tr(
        "every attempt is charged: {institution} had {before} charges (ε {epsilon_before:.3f}), now {after} "
        "(ε {epsilon_after:.3f})",
        institution=f["institution"],
        before=f["before"],
        after=f["after"],
        epsilon_before=f["epsilon_before"],
        epsilon_after=f["epsilon_after"],
    ),
    "absent-not-charged": lambda f: tr(
        "{institution}, absent from one attempt, has {charges} charges for the other ones",
        institution=f["institution"],
        charges=f["charges"],
    ),
    "resumed": lambda f: tr("the run goes on and releases round {round}", round=f["round"]),
    "log-continues": lambda f: tr(
        "the log goes on where the kill left it: {before} entries then, {after} now, none changed",
        before=f["before"],
        after=f["after"],
    ),
    "first-attempt-stays-shut": lambda f: tr(
        "the attempt that the kill cut off is never opened: {shares} shares left", shares=f["shares"]
    ),
    "no-mask-used-twice": lambda f: tr(
        "no mask is used twice: those of both attempts agree in {equal} of {lanes} lanes",
        equal=f["equal"],
        lanes=f["lanes"],
    ),
    "new-epoch": lambda f: tr("the attempts used the keys of {count} different epochs", count=f["count"]),
    "one-charge-per-upload": lambda f: tr(
        "every upload is charged once: {charges} charges in all", charges=f["charges"]
    ),
}
"""What must be so if the defence held."""
