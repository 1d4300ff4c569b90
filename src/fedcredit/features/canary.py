"""The canary once more, on made features: one that tells bad from good alone is nearly always a leak.

``checking.canary`` looks at the columns of tables with one row per contract. A leak can also come from a table of many
rows, from what a window takes in, or from where a feature is missing; here every feature and every gap is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedcredit.checking.canary import HARD_STOP, LEAST_BADS, SIGN_OFF, auc
from fedcredit.errors import LeakageCanaryError, StrongFeatureError
from fedcredit.features.names import FeatureName

Numbers = NDArray[np.float64]
Bad = NDArray[np.bool_]


def require_silence(
    frame: pa.Table, names: Sequence[FeatureName], bad: Bad, *, accepted: frozenset[str], place: str
) -> None:
    """Raise if a feature, or where it is missing, has an AUC that no honest feature has.

    Raises:
        LeakageCanaryError: an AUC above 0.90, either way round.
        StrongFeatureError: one of 0.80 or more, unless its code is among the ``accepted`` ones.
    """
    for name in names:
        for told, scores, labels in _looked_at(frame, name, bad):
            if min(int(labels.sum()), int((~labels).sum())) < LEAST_BADS:
                continue
            power = max(auc(scores, labels), 1 - auc(scores, labels))
            shown = {"path": place, "column": told, "auc": f"{power:.3f}"}
            if power > HARD_STOP:
                raise LeakageCanaryError(limit=f"{HARD_STOP:.2f}", **shown)
            if power >= SIGN_OFF and StrongFeatureError.code not in accepted:
                raise StrongFeatureError(limit=f"{SIGN_OFF:.2f}", **shown)


def _looked_at(frame: pa.Table, name: FeatureName, bad: Bad) -> Iterator[tuple[str, Numbers, Bad]]:
    """Yield what is told, scores and labels: the feature where it is known, and whether it is."""
    column = frame[name.text].combine_chunks()
    there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    yield f"{name.text} missing", (~there).astype(np.float64), bad
    if name.is_words:
        words = np.asarray(column.to_pylist(), dtype=object)[there]
        rates = {word: float(bad[there][words == word].mean()) for word in set(words)}
        yield name.text, np.array([rates[word] for word in words], dtype=np.float64), bad[there]
    else:
        yield name.text, column.to_numpy(zero_copy_only=False)[there], bad[there]
