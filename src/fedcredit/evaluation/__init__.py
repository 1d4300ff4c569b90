"""How good a model is: exact figures from rows, which stay local, and figures from counts, which members add up.

``rows.auc(scores, labels)`` and ``figures.auc(counts)`` have the same name because they are the same figure; call them
through their module.
"""

from fedcredit.evaluation import figures, rows
from fedcredit.evaluation.counts import ScoreCounts, count_scores, score_edges
from fedcredit.evaluation.figures import CumulativeShares, Figures, auc_interval, noisy_auc_interval
from fedcredit.evaluation.intervals import CalibrationBin, Interval

__all__ = [
    "CalibrationBin",
    "CumulativeShares",
    "Figures",
    "Interval",
    "ScoreCounts",
    "auc_interval",
    "count_scores",
    "figures",
    "noisy_auc_interval",
    "rows",
    "score_edges",
]
