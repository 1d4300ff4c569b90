"""What a demo says at its end: the comparison, what privacy was spent, and what left each institution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedcredit.cli.output import note, say, table
from fedcredit.cli.texts import tr, word


def tell_result(result: Mapping[str, Any]) -> None:
    """Print the result of a study (``lab.results``) for people."""
    summary = result["summary"]
    say("")
    say(
        tr(
            " Scored on the {borrowers:,} held-out borrowers of all institutions, 95 % intervals;",
            borrowers=summary["test_n"],
        )
    )
    say(tr(" {provenance}.", provenance=word(result["provenance_note"])))
    _tell_models(result["rows"])
    _tell_privacy(result["privacy"])
    _tell_sums(result)
    tell_verdict(result)
    _tell_traffic(result["traffic"], result["privacy"]["spent"])
    say("")
    say(
        tr(
            " Federated {federated:.3f} · average of alone {alone:.3f} · pooled without privacy {pooled:.3f} · "
            "{seconds:.0f} s",
            federated=summary["federated_auc"],
            alone=summary["alone_mean_auc"],
            pooled=summary["pooled_auc"],
            seconds=result["wall_s"],
        )
    )


def _tell_models(rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [
        [
            tr("{institution} alone", institution=line["institution"]),
            f"{line['n']:,}",
            _interval(line, "alone_auc"),
            _interval(line, "alone_ks"),
            _interval(line, "gain", sign="+"),
            _interval(line, "own_gain", sign="+"),
        ]
        for line in rows
    ]
    first = rows[0]
    everybody = f"{sum(line['n'] for line in rows):,}"
    for name, model in ((tr("federated, ours"), "federated"), (tr("pooled, no privacy"), "pooled")):
        lines.append([name, everybody, _interval(first, f"{model}_auc"), _interval(first, f"{model}_ks"), "", ""])
    columns = [
        tr("model"),
        tr("trained on"),
        tr("AUC"),
        tr("KS"),
        tr("federated gains"),
        tr("on its own customers"),
    ]
    table("", columns, lines)


def _tell_privacy(privacy: Mapping[str, Any]) -> None:
    say("")
    if not privacy["protects"]:
        note(tr("NOT PRIVATE: nothing here is protected by differential privacy"))
        return
    _tell_claim(privacy)
    say(
        tr(
            "          a membership test with 1 % false alarms finds at most {ceiling:.1%} of the borrowers",
            ceiling=privacy["tpr_ceiling_at_fpr_1_percent"],
        )
    )


def _tell_sums(result: Mapping[str, Any]) -> None:
    if result["aggregation"] == "open":
        say(tr("          OPEN aggregation: the coordinator read the message of every institution"))
        return
    say(
        tr(
            "          the coordinator read sums only, each once {threshold} institutions had agreed to open it",
            threshold=result["threshold"],
        )
    )


def tell_verdict(closing: Mapping[str, Any]) -> None:
    """Print whether the members released the model, and what each of them said and why."""
    if closing["verdict"] == "not-voted":
        note(tr("nobody voted on the model: the plan says so"))
        return
    said = ", ".join(
        f"{name} {word(vote)} ({word(reason)})" for name, (vote, reason) in sorted(closing["votes"].items())
    )
    if closing["verdict"] == "released":
        say(tr("   votes: the members released the model: {said}", said=said))
    else:
        note(tr("NOT RELEASED: the members kept the model back; it stays a candidate: {said}", said=said))


def require_released(result: Mapping[str, Any]) -> None:
    """Return unless the members kept the study's model back; result and report are written by then.

    Raises:
        ModelNotReleasedError: they did.
    """
    from fedcredit.errors import ModelNotReleasedError

    if result["verdict"] == "not-released":
        said = [vote for vote, _ in result["votes"].values()]
        counted = {name: said.count(name) for name in ("yes", "no", "abstain")}
        raise ModelNotReleasedError(**counted, colluders=result["colluders"])


def _tell_claim(privacy: Mapping[str, Any]) -> None:
    if privacy["noise"] == "shared":
        # Never one figure without the other: the first holds as long as the masks do.
        say(
            tr(
                " Privacy: the sums are ({epsilon:g}, {delta:g})-differentially private over the whole training, per "
                "{unit}; whoever reads a message alone faces epsilon {alone:.2f}",
                epsilon=privacy["epsilon"],
                delta=privacy["delta"],
                unit=word(privacy["unit"]),
                alone=privacy["epsilon_alone"],
            )
        )
        return
    say(
        tr(
            " Privacy: every message is ({epsilon:g}, {delta:g})-differentially private on its own over the whole "
            "training, per {unit}",
            epsilon=privacy["epsilon"],
            delta=privacy["delta"],
            unit=word(privacy["unit"]),
        )
    )


def _tell_traffic(traffic: Mapping[str, Any], spending: Sequence[Mapping[str, Any]]) -> None:
    say("")
    table(
        tr("What left each institution ({types}; sealed)", types=", ".join(traffic["message_types"])),
        [tr("institution"), tr("messages"), tr("kB out"), tr("kB in"), tr("ε spent of cap")],
        [
            [
                line["institution"],
                str(line["messages"]),
                f"{line['bytes_up'] / 1000:.1f}",
                f"{line['bytes_down'] / 1000:.1f}",
                _of_cap(spent),
            ]
            for line, spent in zip(traffic["institutions"], spending, strict=True)
        ],
    )


def _of_cap(spent: Mapping[str, Any]) -> str:
    if spent["epsilon_alone"] == spent["epsilon"]:
        return tr("{spent:.3f} of {cap:.3f}", spent=spent["epsilon"], cap=spent["cap"])
    return tr(
        "{spent:.3f} ({alone:.3f} alone) of {cap:.3f}",
        spent=spent["epsilon"],
        alone=spent["epsilon_alone"],
        cap=spent["cap"],
    )


def _interval(line: Mapping[str, Any], name: str, *, sign: str = "") -> str:
    if line[name] is None:
        return tr("too few")
    value, low, high = (f"{line[key]:{sign}.3f}".replace("0.", ".") for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} ({low}–{high})" if not sign else f"{value} ({low}…{high})"
