"""Scores and labels as every figure wants them: checked once, at the door. A label of 1 is a default (a "bad")."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.errors import EvaluationError, EvaluationInputError, LayoutMismatchError, NotFiniteError

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


def finite_scores(scores: npt.ArrayLike) -> Floats:
    """Return ``scores`` as a float64 vector.

    Raises:
        NotFiniteError: a score is NaN or infinite.
        EvaluationInputError: the array is not one-dimensional.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise EvaluationInputError(what="the score array", problem="it is not one-dimensional")
    if not np.isfinite(values).all():
        raise NotFiniteError(what="the score vector")
    return values


def probabilities(scores: npt.ArrayLike) -> Floats:
    """Return ``scores`` as a float64 vector of probabilities.

    Raises:
        NotFiniteError: a score is NaN or infinite.
        EvaluationInputError: a score lies outside [0, 1]; which one, and its value, stay unsaid.
    """
    values = finite_scores(scores)
    if ((values < 0.0) | (values > 1.0)).any():
        raise EvaluationInputError(what="the score vector", problem="a score lies outside 0 to 1")
    return values


def bad_flags(labels: npt.ArrayLike, *, rows: int) -> Flags:
    """Return ``labels`` as flags, True for a default.

    Raises:
        LayoutMismatchError: there are not exactly ``rows`` labels.
        EvaluationInputError: the array is not one-dimensional, or a label is neither 0 nor 1 (NaN included).
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise EvaluationInputError(what="the label array", problem="it is not one-dimensional")
    if values.size != rows:
        raise LayoutMismatchError(what="the label vector", actual=values.size, expected=rows)
    bad: Flags = np.equal(values, 1)
    if not (bad | np.equal(values, 0)).all():
        raise EvaluationInputError(what="the label vector", problem="a label is neither 0 nor 1")
    return bad


def require_both(*, good: int, bad: int, least: int, figure: str) -> None:
    """Raise ``EvaluationError`` unless each outcome has at least ``least`` rows."""
    if min(good, bad) < least:
        problem = "one outcome is absent" if least == 1 else f"an outcome has fewer than {least} rows"
        raise EvaluationError(figure=figure, problem=problem)


def require_rows(rows: int, *, figure: str) -> None:
    """Raise ``EvaluationError`` if there is no row at all."""
    if rows < 1:
        raise EvaluationError(figure=figure, problem="there is no row")
