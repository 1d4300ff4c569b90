"""Made-up runs: the content of ``result.json`` and ``metrics.jsonl`` as the lab writes them."""

from __future__ import annotations

from typing import Any

KINDS = ("bank", "guarantee_fund", "insurer", "auto_finance", "lessor")


def row(name: str, *, position: int) -> dict[str, Any]:
    alone, shared, pooled, gain = 0.752 + 0.004 * position, 0.774, 0.783, 0.022 - 0.004 * position
    return {
        "institution": name,
        "kind": KINDS[position % len(KINDS)],
        "modalities": ["application", "repayment"] if position % 2 == 0 else ["application", "repayment", "bureau"],
        "n": 7200 - 650 * position,
        "alone_method": "gradient boosting" if position % 2 == 0 else "scorecard",
        **band("alone_auc", alone, 0.011),
        **band("alone_ks", 0.391 + 0.003 * position, 0.018),
        **band("federated_auc", shared, 0.010),
        **band("federated_ks", 0.418, 0.017),
        **band("pooled_auc", pooled, 0.010),
        **band("pooled_ks", 0.431, 0.017),
        **band("gain", gain, 0.009),
        "own_n": 1800 - 160 * position,
        "own_alone_auc": 0.749,
        "own_federated_auc": 0.768,
        "own_gain": 0.019,
        "own_gain_low": 0.004,
        "own_gain_high": 0.034,
    }


def band(name: str, value: float, half: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def result(*, institutions: int = 4, names: list[str] | None = None) -> dict[str, Any]:
    names = names or [f"{KINDS[i % 5].replace('_', '-')}-{'abcdefgh'[i]}" for i in range(institutions)]
    return {
        "schema_version": "3",
        "dataset": "taiwan",
        "title": "Credit-card default in Taiwan, 2005",
        "provenance": "real-segments",
        "provenance_note": "segments by credit limit stand in for institutions",
        "attribution": "I-Cheng Yeh, Default of Credit Card Clients, 2009, https://doi.org/10.24432/C55S3H, CC BY 4.0",
        "model": "scorecard",
        "model_settings": {"kind": "scorecard", "base_rate": 0.2, "trees": 0},
        "runtime": "inprocess",
        "seed": 1,
        "rounds": 20,
        "protected": True,
        "aggregation": "open",
        "threshold": 1,
        "update_bound": "share",
        "vote_floor": 0.55,
        "colluders": 0,
        "verdict": "released",
        "votes": {name: ["yes", "better-than-chance"] for name in names},
        "rows": [row(name, position=i) for i, name in enumerate(names)],
        "summary": {
            "test_n": 6000,
            "test_bads": 1327,
            "alone_mean_auc": 0.758,
            **band("federated_auc", 0.774, 0.010),
            "pooled_auc": 0.783,
            "pooled_method": "gradient boosting",
            "federated_brier": 0.1361,
            "federated_observed_expected": 1.03,
        },
        "calibration": [
            {"mean_predicted": p, "observed": o, "n": 600, "low": o - 0.03 * (o + 0.4), "high": o + 0.03 * (o + 0.4)}
            for p, o in (
                *((0.05, 0.062), (0.08, 0.083), (0.11, 0.101), (0.13, 0.126), (0.15, 0.161)),
                *((0.18, 0.172), (0.21, 0.224), (0.26, 0.271), (0.39, 0.382), (0.66, 0.631)),
            )
        ],
        "federated_evaluation": {
            **band("auc", 0.772, 0.013),
            "ks": 0.415,
            "gini": 0.544,
            "brier": 0.1366,
            "observed_expected": 1.02,
            "epsilon": 0.5,
            "note": "from noised score counts of all institutions",
        },
        "privacy": {
            "unit": "borrower",
            "neighbours": "add-or-remove-one",
            "mechanism": "rounded-gaussian",
            "accountant": "gdp",
            "noise": "local",
            "honest_shares": 1,
            "epsilon": 3.0,
            "epsilon_alone": 3.0,
            "delta": 1e-5,
            "steps": 20,
            "preparations": 0,
            "sampling_rate": 1.0,
            "epsilon_by_renyi": 3.2114,
            "tpr_ceiling_at_fpr_1_percent": 0.0553,
            "evaluation_epsilon": 0.5,
            "evaluation_epsilon_alone": 0.5,
            "test_noise": False,
            "spent": [
                {
                    "institution": name,
                    "epsilon": 2.9912,
                    "epsilon_alone": 2.9912,
                    "cap": 3.0,
                    "holdout_epsilon": 0.5,
                    "holdout_epsilon_alone": 0.5,
                    "releases": 21,
                }
                for name in names
            ],
        },
        "traffic": {
            "message_types": ["train-answer", "counts-answer", "close-answer", "refusal"],
            "institutions": [
                {"institution": name, "messages": 21, "bytes_up": 184_320 + 977 * i, "bytes_down": 1_203_400 + 3113 * i}
                for i, name in enumerate(names)
            ],
        },
        "audit": {"head": "9c1e" * 16, "entries": 130},
        "plan_digest": "07ab" * 16,
        "run": "0193-7f",
        "wall_s": 31.2,
        "run_dir": "/srv/fedcredit/runs/0193-7f",
        "version": "0.1.0",
    }


def metrics(rounds: int = 20) -> list[dict[str, Any]]:
    lines = []
    for number in range(1, rounds + 1):
        auc = 0.774 - 0.16 * 0.75 ** (number - 1)
        lines.append(
            {
                "round": number,
                **band("auc", auc, 0.011),
                "ks": 0.418 - 0.21 * 0.75 ** (number - 1),
                "epsilon": 3.0 * (number / rounds) ** 0.55,
                "seconds": 1.4,
                "institutions": 4,
            }
        )
    return lines


def shared_result() -> dict[str, Any]:
    """A run of trees whose noise three honest institutions share, as the lab writes one."""
    value = result()
    value |= {"aggregation": "secure", "threshold": 3}
    value["traffic"]["message_types"] = [
        *("epoch-hello", "epoch-boxes", "upload", "accept", "reveal", "close-answer"),
        "refusal",
    ]
    value["model"] = "trees"
    value["model_settings"] = {
        "kind": "trees",
        "depth": 5,
        "trees_per_round": 10,
        "structure_seed": 1,
        "base_rate": 0.2,
        "trees": 400,
    }
    value["privacy"] |= {
        "mechanism": "skellam",
        "accountant": "rdp",
        "noise": "shared",
        "honest_shares": 3,
        "epsilon_alone": 5.7634,
        "epsilon_by_renyi": 3.0,
        "preparations": 2,
        "evaluation_epsilon_alone": 0.9117,
    }
    value["privacy"]["spent"] = [
        entry | {"epsilon_alone": 5.7401, "holdout_epsilon_alone": 0.9117} for entry in value["privacy"]["spent"]
    ]
    return value


def unprotected_result() -> dict[str, Any]:
    """A run with an infinite epsilon, as the lab writes one."""
    value = result()
    value["protected"] = False
    everything = ("epsilon", "epsilon_alone", "epsilon_by_renyi", "evaluation_epsilon", "evaluation_epsilon_alone")
    value["privacy"] |= dict.fromkeys(everything, "inf") | {"tpr_ceiling_at_fpr_1_percent": 1.0}
    value["privacy"] |= {"mechanism": "none", "accountant": "none"}
    endless = dict.fromkeys(("epsilon", "epsilon_alone", "cap", "holdout_epsilon", "holdout_epsilon_alone"), "inf")
    value["privacy"]["spent"] = [entry | endless for entry in value["privacy"]["spent"]]
    value["federated_evaluation"]["epsilon"] = "inf"
    return value


def unprotected_metrics() -> list[dict[str, Any]]:
    return [line | {"epsilon": "inf"} for line in metrics()]
