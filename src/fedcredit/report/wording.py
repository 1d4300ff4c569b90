"""Numbers and sentences of the report, in English.

A cost is rounded up and never down; a figure without a value is a dash; a minus is a minus sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final

from fedcredit.report.record import InstitutionRow, Privacy, Result

DASH: Final = "–"
MINUS: Final = "\N{MINUS SIGN}"
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_RUNTIMES: Final = {
    "inprocess": "in one process on one machine, without a network",
    "flower": "over Flower, with a relay and one courier process per institution",
}
_PROVENANCE: Final = {
    "real": "Real data",
    "real-segments": "Real data; segments stand in for institutions",
    "simulated": "Simulated data",
}
_PROVENANCE_LIMIT: Final = {
    "real": "The records are real and historic; the lab put them together in one place, which institutions would not.",
    "real-segments": (
        "The institutions are segments of one real data set. Differences between real companies (systems, definitions "
        "of default, ways of granting credit) are missing, and so is the trouble they cause."
    ),
    "simulated": (
        "The data are simulated: the figures show that the procedure works, not how good a model of real borrowers is."
    ),
}


def rate(value: float | None) -> str:
    """Return a figure with three decimals, ∞ for infinity, or a dash for ``None``."""
    if value is None:
        return DASH
    return "∞" if value == math.inf else f"{value:.3f}".replace("-", MINUS)


def change(value: float | None) -> str:
    """Return a difference with its sign and three decimals, or a dash; what rounds to zero has no sign."""
    if value is None:
        return DASH
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", MINUS)


def decimals2(value: float | None) -> str:
    """Return a ratio with two decimals, ∞ for infinity, or a dash for ``None``."""
    if value is None:
        return DASH
    return "∞" if value == math.inf else f"{value:.2f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal, rounded up, or a dash for ``None``."""
    return DASH if value is None else f"{_up(value * 100, '0.1')} %"


def cost(value: float | None) -> str:
    """Return an epsilon with two decimals, rounded up; infinity is ∞ and ``None`` a dash."""
    if value is None:
        return DASH
    return "∞" if math.isinf(value) else str(_up(value, "0.01"))


def small(value: float) -> str:
    """Return a small positive number as a power of ten with at most two leading digits: 1e-05 is 10⁻⁵."""
    digits, exponent = f"{value:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if digits == "1.0" else f"{digits.removesuffix('.0')} × {power}"


def count(value: int) -> str:
    """Return a whole number with commas between thousands."""
    return f"{value:,}"


def size(value: int) -> str:
    """Return a number of bytes in B, kB, MB or GB (powers of 1000) with about three digits."""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB"):
        if amount >= 999.5:
            amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.95 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time span in seconds or minutes."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def without_scheme(text: str) -> str:
    """Return ``text`` with its web addresses shortened to host and path: the file names them, it never calls them."""
    return text.replace("https://", "").replace("http://", "")


def provenance(result: Result) -> str:
    """Return the sentence that stands beside every result: what the data are."""
    words, note = _PROVENANCE[result.provenance], without_scheme(result.provenance_note).strip().rstrip(".")
    if not note:
        return f"{words}."
    # The note often says itself that segments stand in; then it need not be said twice, but it must be said once.
    return f"{words.split('; ')[0]}; {note}." if "stand in for institutions" in note else f"{words}: {note}."


def short_provenance(result: Result) -> str:
    """Return the few words that are drawn into every figure."""
    return _PROVENANCE[result.provenance]


def runtime(result: Result) -> str:
    """Return how the run was carried out."""
    return _RUNTIMES.get(result.runtime, f"with the runtime {result.runtime}")


def verdict(rows: Sequence[InstitutionRow]) -> str:
    """Return the result in two sentences: on everybody's borrowers, and on each institution's own.

    The second can turn the first round: an own model fits its own borrowers and is judged on others' as well. An
    interval that holds zero counts for neither side; the figures on own borrowers have no interval.
    """
    better = sum(row.gain_low > 0 for row in rows)
    worse = sum(row.gain_high < 0 for row in rows)
    open_ = len(rows) - better - worse
    parts = [f"better than the institution’s own best model for {better} of {len(rows)} institutions"]
    if worse:
        parts.append(f"worse for {worse}")
    if open_:
        parts.append(f"without a clear difference for {open_}")
    return f"On the common test records the shared model is {', '.join(parts)}.{_own_verdict(rows)}"


def _own_verdict(rows: Sequence[InstitutionRow]) -> str:
    known = [row for row in rows if row.own_gain_low is not None and row.own_gain_high is not None]
    if not known:
        return ""
    better = sum(row.own_gain_low is not None and row.own_gain_low > 0 for row in known)
    worse = sum(row.own_gain_high is not None and row.own_gain_high < 0 for row in known)
    return (
        f" On each institution’s own test records it is better for {better}, worse for {worse} and without a clear "
        f"difference for {len(known) - better - worse} of {len(known)}."
    )


def incomplete(rows: Sequence[InstitutionRow]) -> tuple[str, ...]:
    """Return the institutions that lack a modality that another one holds."""
    every = {modality for row in rows for modality in row.modalities}
    return tuple(row.institution for row in rows if set(row.modalities) < every)


def gain_word(row: InstitutionRow) -> str:
    """Return what the interval of the gain says, in one word."""
    if row.gain_low > 0:
        return "better"
    return "worse" if row.gain_high < 0 else "open"


def why_not_private(result: Result) -> str:
    """Return the reason for the banner of a run that is not private."""
    if result.privacy.test_noise:
        return "The noise came from a generator for tests, whose output anyone can repeat."
    if math.isinf(result.privacy.epsilon):
        return "Epsilon is infinite: nothing was added to what left the institutions."
    return "The run was marked as unprotected."


def privacy_sentence(result: Result) -> str:
    """Return what the run's privacy means to one borrower, or that there is none."""
    if not result.private:
        return f"None. {why_not_private(result)} Nothing here may be quoted as the result of a private run."
    privacy = result.privacy
    return (
        f"Training is differentially private with {_claim(privacy)}; "
        f"the unit is one {privacy.unit}, {privacy.neighbours.replace('-', ' ')}. {_meaning(privacy)}"
    )


def _claim(privacy: Privacy) -> str:
    if privacy.noise == "local":
        return f"{_epsilon(privacy.epsilon)} at δ = {small(privacy.delta)}"
    return (
        f"{_epsilon(privacy.epsilon)} against whoever sees the sums only, and with {_epsilon(privacy.epsilon_alone)} "
        f"against whoever reads one institution’s messages alone, both at δ = {small(privacy.delta)}"
    )


def _epsilon(value: float) -> str:
    # No line ends inside a claim.
    return f"ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{cost(value)}"


def _meaning(privacy: Privacy) -> str:
    seen = "everything that was released" if privacy.noise == "local" else "all released sums"
    return (
        f"In plain words: someone who sees {seen}, and accepts 1 % false alarms, recognises "
        f"that a given {privacy.unit} took part with a probability of at most "
        f"{percent(privacy.tpr_ceiling_at_fpr_1_percent)}; guessing gives 1 %."
    )


def noise(privacy: Privacy) -> str:
    """Return who adds how much of the noise."""
    if privacy.mechanism == "none":
        return "none"
    if privacy.noise == "local":
        return "local: each institution adds all the noise that its own message needs"
    return (
        f"shared: {privacy.honest_shares} honest institutions’ shares together make the noise that a sum needs; each "
        f"adds 1/{privacy.honest_shares} of its variance"
    )


def noise_sentence(privacy: Privacy) -> str:
    """Return what the two costs, of the sum and of a message that is read alone, have to do with each other."""
    if privacy.noise == "local":
        return "The noise is local: every message is private alone, so ε is the same with and without the sum."
    return (
        f"The noise is shared: {_epsilon(privacy.epsilon)} holds for sums that contain at least "
        f"{privacy.honest_shares} honest institutions, {_epsilon(privacy.epsilon_alone)} for a message that is read "
        "alone. Neither figure may be quoted without the other."
    )


def accountant(privacy: Privacy) -> str:
    """Return how ε was computed first."""
    return {"gdp": "Gaussian DP, exact", "rdp": "Rényi DP", "none": DASH}[privacy.accountant]


def second_accountant(privacy: Privacy) -> str:
    """Return the ε of training by another route, or that there is none."""
    if privacy.accountant == "gdp":
        return f"{cost(privacy.epsilon_by_renyi)} (Rényi DP)"
    # With this accountant both routes are one, and a figure twice is no check.
    return f"{DASH} (this mechanism has Rényi DP only)" if privacy.accountant == "rdp" else DASH


def steps(privacy: Privacy) -> str:
    """Return how many releases of training share ε, repetitions included."""
    parts = [f"{count(privacy.steps)} steps"]
    if privacy.preparations:
        parts.append(f"{count(privacy.preparations)} histogram{'s' * (privacy.preparations > 1)} before the first step")
    everybody = privacy.sampling_rate == 1
    parts.append("all borrowers" if everybody else f"a random {percent(privacy.sampling_rate)} of borrowers a step")
    return " · ".join(parts)


def model(result: Result) -> str:
    """Return what the shared model is, in a sentence."""
    settings = result.model_settings
    if result.model == "trees":
        return (
            f"The model is {count(settings.trees)} boosted trees of depth {settings.depth}, "
            f"{settings.trees_per_round} added in each round. Where a tree splits follows from public values; only the "
            "values of its leaves are learned, from noised sums. A score adds up a borrower’s leaves in the "
            "trees whose modalities are known."
        )
    if result.model == "scorecard":
        return "The model is a scorecard: every bin of every feature has points, and a score adds them up."
    if result.model == "network":
        return (
            f"The model is a neural network: an encoder of {settings.width} units for each modality, and beside them "
            "points for every bin, as in a scorecard."
        )
    return f"The model is of the kind {result.model}."


def trust(result: Result) -> str:
    """Return whom an institution still has to trust, and with what."""
    relay = " The relay sees sizes and times only." if result.runtime == "flower" else ""
    if result.aggregation == "open":
        return f"{_open_sums(result)}{relay}"
    summed = (
        f"Updates were summed under secure aggregation: the coordinator read sums only, each opened after at least "
        f"{result.threshold} institutions had agreed whose updates were in it."
    )
    if not result.private:
        return f"{summed} In this run a sum carries no noise that protects anybody.{relay}"
    if result.privacy.noise == "shared":
        return (
            f"{summed} The stated ε is that of the sums. If secure aggregation failed, "
            f"{_epsilon(result.privacy.epsilon_alone)} would hold for a message read alone.{relay}"
        )
    return f"{summed} Every message is differentially private on its own as well, so ε does not rest on that.{relay}"


def _open_sums(result: Result) -> str:
    if not result.private:
        return "The plan said open aggregation: the coordinator saw each institution’s update without protection."
    return (
        "The plan said open aggregation: the coordinator saw each institution’s noised update, not only the sum. Every "
        "message is differentially private on its own, so the stated ε holds against the coordinator too."
    )


def votes(result: Result) -> str:
    """Return whether the members released the model, and by which rule."""
    if result.verdict == "not-voted" or result.vote_floor is None:
        return "Nobody voted on the model: the plan said so. Whether it is fit for use, somebody else has to say."
    said = [vote for vote, _ in result.votes.values()]
    counted = f"{said.count('yes')} said yes, {said.count('no')} no, {said.count('abstain')} abstained"
    rule = f"a release needs more than {result.colluders} yes, and more yes than no or unheard"
    outcome = "The members released the model" if result.verdict == "released" else "The members kept the model back"
    return f"{outcome}: {counted}; {rule}. The floor was an AUC of {result.vote_floor:g} on own held-out borrowers."


def containment(result: Result) -> str:
    """Return what one institution could have done to the model."""
    if result.update_bound == "none":
        return "No bound on updates: one institution could carry every sum."
    return (
        "Every institution shortened its sum in each round to its share of the last one, and each sum was checked "
        "against that. A member that changed its program could still do harm within that range."
    )


def limits(result: Result) -> tuple[str, ...]:
    """Return what this report does not show, most important first."""
    return (
        *_unfair(result),
        *_shared(result),
        *_absent(result),
        "One data set, one division into institutions, one run with one seed. It says nothing about other portfolios.",
        "Every interval is the sampling error of the test records only. The noise of training, the seed and the "
        "division of the data would add to it.",
        _PROVENANCE_LIMIT[result.provenance],
        "The own models and the pooled model use no differential privacy. Pooling all rows is a ceiling that "
        "institutions could reach only by showing each other their rows.",
        "The lab holds all test records, so it computes these figures exactly and shows the size and the own figures "
        "of each institution. They are not covered by ε. In a consortium they stay inside; what leaves are noised "
        "score counts, shown under federated evaluation.",
        "ε is the cost of this run. Other runs on the same borrowers add to it; each institution’s ledger keeps the "
        "sum.",
        "Not examined here: differences between groups of borrowers, drift over time, money gained or lost.",
    )


def _unfair(result: Result) -> tuple[str, ...]:
    points = [
        "The common test records are borrowers of all institutions. A gain there is not a gain on an institution’s own "
        "borrowers, which its own model knows best; table 4 compares the two on those."
    ]
    if lacking := incomplete(result.rows):
        held = ", ".join(lacking)
        points.append(
            "Nobody knows the modalities that an institution lacks. The shared model scores each test record with "
            "what its institution holds; an own model finds empty what others do not hold, which flatters the gain. "
            f"Not everything is held by: {held}."
            if result.provenance == "simulated"
            else "Every test record carries every modality, also at institutions that do not hold them all "
            f"({held}). There the shared model is given data that the institution does not have, and the "
            "gain is overstated."
        )
    return tuple(points)


def _absent(result: Result) -> tuple[str, ...]:
    if not result.left_out:
        return ()
    named = "; ".join(f"{name} ({reason})" for name, reason in result.left_out.items())
    return (f"Institutions of the data that did not take part: {named}.",)


def _shared(result: Result) -> tuple[str, ...]:
    if not result.shared_borrowers:
        return ()
    return (
        f"{result.shared_borrowers:,} borrowers are at two institutions or more, one at {result.most_institutions}. "
        "ε is per borrower and institution: their losses add up, to at most "
        f"{result.most_institutions} times ε.",
    )


def _up(value: float, step: str) -> Decimal:
    # 0.1 + 0.2 must not become 0.31: what lies a billionth above a step is the float, not a cost.
    return Decimal(repr(round(value, 9))).quantize(Decimal(step), rounding=ROUND_CEILING)
