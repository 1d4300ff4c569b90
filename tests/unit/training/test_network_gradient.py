from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.errors import ConfigValueError, NotFiniteError
from fedcredit.messages import WEIGHT_LIMIT
from fedcredit.model import linear_stack
from fedcredit.model.layout import Block, ModalityShape, ParameterLayout
from fedcredit.model.linear_stack import Dense, LinearStack, LinearStep, borrowers_at_once, probabilities
from fedcredit.model.logistic import LogisticRegression
from fedcredit.model.network import MultimodalNetwork
from fedcredit.training import network_gradient
from fedcredit.training.network_gradient import ClippedGradients, NetworkGradient, network_bounds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # opacus warns about its own imports
    from opacus.grad_sample import GradSampleModule

INPUTS = {
    "application": ModalityShape(kind="static", bins=(2, 3), nominal=(False, False), dense=(4,)),
    "repayment": ModalityShape(kind="sequence", bins=(3,), nominal=(False,), dense=(6, 2)),
}
NETWORK = MultimodalNetwork(INPUTS, width=5)
LOGISTIC = LogisticRegression(INPUTS)
HELD = [("application",), ("repayment",), ("application", "repayment")]
Gradients = dict[str, torch.Tensor]
"""Per block: (n, *shape), one gradient per borrower."""


def table_of(model: LinearStack, rows: int, *, seed: int, held: tuple[str, ...] = HELD[2]) -> CreditTable:
    """Random borrowers, their dense part already in the model's own design."""
    rng = np.random.default_rng(seed)
    modalities = {}
    for name in held:
        codes = rng.integers(0, INPUTS[name].bins, size=(rows, len(INPUTS[name].bins))).astype(np.int16)
        dense = rng.uniform(-1, 1, size=(rows, *INPUTS[name].dense)).astype(np.float32)
        modalities[name] = ModalityTable(codes=codes, dense=model.design(name, codes, dense))
    return CreditTable(
        entities=np.array([f"b{i}" for i in range(rows)], dtype=np.str_),
        labels=rng.integers(0, 2, size=rows).astype(np.int8),
        modalities=modalities,
        dropped=0,
    )


def weights_of(model: LinearStack, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=model.layout.size)


class Twin(nn.Module):
    """The same network in ordinary torch layers, so that other programs can find its per-borrower gradients."""

    def __init__(self, held: tuple[str, ...], weights: np.ndarray) -> None:
        super().__init__()
        self.held = held
        parts = NETWORK.layout.split(weights)
        sequences = [name for name in held if INPUTS[name].kind == "sequence"]
        self.encoder = nn.ModuleDict({name: self._linear(f"{name}.encoder", parts) for name in held})
        self.sequence = nn.ModuleDict({name: self._linear(f"{name}.sequence", parts) for name in sequences})
        self.points = nn.ModuleDict({name: self._linear(f"{name}.points", parts) for name in held})
        self.fusion = self._linear("fusion", parts)
        self.head = self._linear("head", parts)

    @staticmethod
    def _linear(name: str, parts: Mapping[str, np.ndarray]) -> nn.Linear:
        out, fan_in = parts[f"{name}.weight"].shape
        layer = nn.Linear(fan_in, out, dtype=torch.float64)
        layer.weight = nn.Parameter(torch.from_numpy(parts[f"{name}.weight"].copy()))
        layer.bias = nn.Parameter(torch.from_numpy(parts[f"{name}.bias"].copy()))
        return layer

    def forward(self, *dense: torch.Tensor) -> torch.Tensor:
        embeddings, points = [], []
        for name, values in zip(self.held, dense, strict=True):
            record = values
            if INPUTS[name].kind == "sequence":
                bins = sum(INPUTS[name].bins)
                record, series = values[:, :bins], values[:, bins:].reshape(-1, *INPUTS[name].dense)
                windows = series.unfold(1, 3, 1).flatten(2)
                embeddings.append(torch.tanh(self.sequence[name](windows)).mean(1))
            embeddings.append(torch.tanh(self.encoder[name](record)))
            points.append(self.points[name](record))
        hidden = torch.tanh(self.fusion(torch.stack(embeddings).mean(0)))
        result: torch.Tensor = (self.head(hidden) + torch.stack(points).sum(0)).squeeze(-1)
        return result


def block_name(parameter: str) -> str:
    """encoder.application.weight -> application.encoder.weight; fusion.weight stays."""
    *layer, kind = parameter.removeprefix("_module.").split(".")
    return ".".join([*reversed(layer), kind])


def inputs_of(table: CreditTable) -> tuple[list[torch.Tensor], torch.Tensor]:
    dense = [torch.from_numpy(part.dense.astype(np.float64)) for part in table.modalities.values()]
    return dense, torch.from_numpy(table.labels.astype(np.float64))


def by_vmap(table: CreditTable, weights: np.ndarray) -> Gradients:
    twin = Twin(tuple(table.modalities), weights)
    parameters = {name: value.detach() for name, value in twin.named_parameters()}
    dense, labels = inputs_of(table)

    def loss(named: Gradients, label: torch.Tensor, *record: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(twin, named, tuple(part.unsqueeze(0) for part in record))
        return nn.functional.binary_cross_entropy_with_logits(logits.squeeze(0), label)

    per_borrower = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, *[0] * len(dense)))
    return {block_name(name): value for name, value in per_borrower(parameters, labels, *dense).items()}


def by_opacus(table: CreditTable, weights: np.ndarray) -> Gradients:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about the hooks that opacus uses
        twin = GradSampleModule(Twin(tuple(table.modalities), weights), loss_reduction="sum")
        dense, labels = inputs_of(table)
        nn.functional.binary_cross_entropy_with_logits(twin(*dense), labels, reduction="sum").backward()
        return {block_name(name): value.grad_sample.detach() for name, value in twin.named_parameters()}


def clipped_sum(gradients: Gradients, layout: ParameterLayout, *, clip: float) -> tuple[np.ndarray, np.ndarray]:
    norms = sum((value.flatten(1) ** 2).sum(1) for value in gradients.values()).sqrt()  # type: ignore[union-attr]
    factors = torch.clamp(clip / norms, max=1.0)
    parts = {
        block.name: (gradients[block.name] * factors.reshape(-1, *[1] * len(block.shape))).sum(0).numpy()
        if block.name in gradients
        else np.zeros(block.shape)
        for block in layout.blocks
    }
    return layout.join(parts), norms.numpy()


def integers(model: LinearStack, table: CreditTable, weights: np.ndarray, *, clip: float, grid: int) -> np.ndarray:
    computation = NetworkGradient(model, table, clip=clip, grid=grid)
    return computation.integer_sum(weights, round_number=1, batch=None).values


def parts_of(table: CreditTable) -> Dense:
    return {name: part.dense for name, part in table.modalities.items()}


def ours(model: LinearStack, table: CreditTable, weights: np.ndarray, *, clip: float) -> np.ndarray:
    return ClippedGradients(model, parts_of(table), table.labels, clip=clip).sum(weights)


def exact_square(values: np.ndarray) -> Fraction:
    return sum((Fraction(float(value)) ** 2 for value in values), start=Fraction())


@pytest.mark.parametrize("held", HELD, ids=str)
@pytest.mark.parametrize("route", [by_vmap, by_opacus], ids=["vmap", "opacus"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["all clipped", "half clipped", "none clipped"])
def test_the_closed_form_is_the_sum_of_clipped_per_borrower_gradients(
    held: tuple[str, ...], route: object, share: float
) -> None:
    table, weights = table_of(NETWORK, 17, seed=1, held=held), weights_of(NETWORK, 2)
    gradients = route(table, weights)  # type: ignore[operator]
    _, norms = clipped_sum(gradients, NETWORK.layout, clip=1.0)
    clip = {0.0: norms.min() / 2, 0.5: float(np.median(norms)), 1.0: norms.max() * 2}[share]
    assert (norms < clip).mean() == pytest.approx(share, abs=0.05)
    expected, _ = clipped_sum(gradients, NETWORK.layout, clip=clip)
    result = ours(NETWORK, table, weights, clip=clip)
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)
    assert np.abs(result).max() > 0


@pytest.mark.parametrize("held", HELD, ids=str)
def test_logistic_regression_has_the_gradient_of_autograd(held: tuple[str, ...]) -> None:
    table, weights = table_of(LOGISTIC, 9, seed=3, held=held), weights_of(LOGISTIC, 4)
    dense, labels = inputs_of(table)
    flat = torch.cat([part.flatten(1) for part in dense] + [torch.ones(9, 1, dtype=torch.float64)], dim=1)
    columns = [
        index
        for name in (*(f"{name}.weight" for name in held), "bias")
        for index in range(LOGISTIC.layout.slices()[name].start, LOGISTIC.layout.slices()[name].stop)
    ]
    residuals = torch.sigmoid(flat @ torch.from_numpy(weights[columns])) - labels
    per_borrower = residuals.unsqueeze(1) * flat
    for clip in (0.2, 100.0):
        factors = torch.clamp(clip / per_borrower.norm(dim=1), max=1.0)
        expected = np.zeros(LOGISTIC.layout.size)
        expected[columns] = (per_borrower * factors.unsqueeze(1)).sum(0).numpy()
        np.testing.assert_allclose(ours(LOGISTIC, table, weights, clip=clip), expected, rtol=1e-12, atol=1e-14)


@settings(deadline=None, max_examples=60)
@given(
    model=st.sampled_from([NETWORK, LOGISTIC]),
    held=st.sampled_from(HELD),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e5]),
    clip=st.sampled_from([1e-6, 0.5, 100.0]),
    grid=st.sampled_from([2, 100, 100_000]),
    data=st.data(),
)
def test_no_borrower_changes_the_integers_by_more_than_the_stated_sensitivity(
    model: LinearStack,
    held: tuple[str, ...],
    rows: int,
    seed: int,
    scale: float,
    clip: float,
    grid: int,
    data: st.DataObject,
) -> None:
    table = table_of(model, rows, seed=seed, held=held)
    weights = np.clip(weights_of(model, seed + 1, scale), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    gone = data.draw(st.integers(0, rows - 1))
    others = table.take(np.arange(rows) != gone)
    whole = integers(model, table, weights, clip=clip, grid=grid)
    change = whole - integers(model, others, weights, clip=clip, grid=grid)
    bounds = network_bounds(model, held, grid=grid, public_borrowers=10)
    assert bounds.sensitivity_squared is not None
    assert int((change**2).sum()) <= bounds.sensitivity_squared
    assert int(np.abs(whole).max()) <= rows * bounds.largest_entry
    assert not whole[~bounds.reached].any()
    # One borrower's sum is what is added for that borrower: inside the ball without any rounding of our own.
    single = ours(model, table.take(np.array([gone])), weights, clip=clip)
    assert exact_square(single) <= Fraction(clip) ** 2


def test_the_stated_sensitivity_is_the_clip_on_the_grid_plus_rounding() -> None:
    # encoder 5 x (3 + 1), sequence 5 x (3 x 2 + 1), points 3 + 1, fusion 5 x (5 + 1), head 5 + 1
    trained = 20 + 35 + 4 + 30 + 6
    for borrowers, arithmetic in ((3, 0), (50_000_000, 2 * 1e16 * 100 / 2**53)):
        bounds = network_bounds(NETWORK, ("repayment",), grid=100, public_borrowers=borrowers)
        assert bounds.reached.tolist() == NETWORK.layout.trained_by(("repayment",)).tolist()
        assert bounds.reached.sum() == trained
        assert bounds.sensitivity_squared == math.ceil((100 + math.sqrt(trained) * (1 + arithmetic)) ** 2)


@pytest.mark.parametrize("scale", [1.0, WEIGHT_LIMIT])
@pytest.mark.parametrize("rows", [2, 33, 200])
def test_the_terms_of_the_others_hardly_depend_on_who_is_there(rows: int, scale: float) -> None:
    weights = np.clip(weights_of(NETWORK, 22, scale), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    table = table_of(NETWORK, rows, seed=23)
    with_first = terms(table, weights, clip=1.0)
    without = terms(table.take(np.arange(rows) > 0), weights, clip=1.0)
    assert (with_first[1:] - without).abs().max() <= 6 * rows * 2.0**-53
    assert with_first.abs().max() > 0.1


def terms(table: CreditTable, weights: np.ndarray, *, clip: float) -> torch.Tensor:
    """What is summed for each borrower, (n, trained)."""
    logits, steps = NETWORK.forward(torch.from_numpy(weights).requires_grad_(), parts_of(table))
    residuals = torch.sigmoid(logits.detach()) - torch.from_numpy(table.labels.astype(np.float64))
    deltas = torch.autograd.grad(logits, [step.outputs for step in steps], residuals)
    timed = [
        (delta.reshape(len(delta), -1, delta.shape[-1]), step.inputs.reshape(len(delta), -1, step.inputs.shape[-1]))
        for step, delta in zip(steps, deltas, strict=True)
    ]
    gradients = torch.cat(
        [part for delta, inputs in timed for part in ((delta.mT @ inputs).flatten(1), delta.sum(1))], dim=1
    ).detach()
    return gradients * (clip / gradients.norm(dim=1, keepdim=True).clamp_min(clip))


@settings(deadline=None, max_examples=30)
@given(
    model=st.sampled_from([NETWORK, LOGISTIC]),
    held=st.sampled_from(HELD),
    owners=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    clip=st.sampled_from([0.5, 100.0]),
)
def test_it_does_not_matter_which_institution_holds_a_borrower(
    model: LinearStack, held: tuple[str, ...], owners: list[int], seed: int, clip: float
) -> None:
    table, weights = table_of(model, len(owners), seed=seed, held=held), weights_of(model, seed + 1)
    parts = [table.take(np.array(owners) == owner) for owner in range(4)]
    together = ours(model, table, weights, clip=clip)
    apart = sum(ours(model, part, weights, clip=clip) for part in parts)
    np.testing.assert_allclose(apart, together, rtol=1e-11, atol=1e-12)
    # On the grid every part rounds once: half a step each, and half a step for the whole.
    steps = sum(integers(model, part, weights, clip=clip, grid=1000) for part in parts)
    whole = integers(model, table, weights, clip=clip, grid=1000)
    assert np.abs(steps - whole).max() <= 2


@pytest.mark.parametrize("model", [NETWORK, LOGISTIC], ids=["network", "logistic"])
@pytest.mark.parametrize("held", HELD, ids=str)
def test_what_an_institution_does_not_hold_stays_zero(model: LinearStack, held: tuple[str, ...]) -> None:
    table = table_of(model, 40, seed=6, held=held)
    values = integers(model, table, weights_of(model, 7), clip=1.0, grid=1000)
    trained = model.layout.trained_by(held)
    assert not values[~trained].any()
    for name, place in model.layout.slices().items():
        assert values[place].any() == bool(trained[place].all()), name


@pytest.mark.parametrize("model", [NETWORK, LOGISTIC], ids=["network", "logistic"])
@pytest.mark.parametrize("held", HELD, ids=str)
def test_no_borrower_gives_zeros(model: LinearStack, held: tuple[str, ...]) -> None:
    empty = table_of(model, 3, seed=8, held=held).take(np.arange(0))
    assert ours(model, empty, weights_of(model, 9), clip=1.0).tolist() == [0.0] * model.layout.size
    assert not integers(model, empty, weights_of(model, 9), clip=1.0, grid=1000).any()
    assert probabilities(model, weights_of(model, 9), parts_of(empty)).shape == (0,)


@pytest.mark.parametrize("model", [NETWORK, LOGISTIC], ids=["network", "logistic"])
@pytest.mark.parametrize("at_once", [1, 3, 17, 18])
def test_slices_of_borrowers_give_the_same_sums(
    model: LinearStack, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, weights = table_of(model, 17, seed=15), weights_of(model, 16)
    whole, scores = ours(model, table, weights, clip=0.5), probabilities(model, weights, parts_of(table))
    assert borrowers_at_once(model, parts_of(table)) > 17
    each = linear_stack.NUMBERS_AT_ONCE // borrowers_at_once(model, parts_of(table))
    monkeypatch.setattr(linear_stack, "NUMBERS_AT_ONCE", each * at_once)
    assert borrowers_at_once(model, parts_of(table)) == at_once
    np.testing.assert_allclose(ours(model, table, weights, clip=0.5), whole, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(probabilities(model, weights, parts_of(table)), scores, rtol=1e-12)


def test_a_bad_number_in_the_last_slice_raises_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(NETWORK, 9, seed=17)
    table.modalities["repayment"].dense[-1, -1] = np.nan
    monkeypatch.setattr(linear_stack, "NUMBERS_AT_ONCE", 1)
    with pytest.raises(NotFiniteError):
        ours(NETWORK, table, weights_of(NETWORK, 18), clip=1.0)


@pytest.mark.parametrize("kept", [True, False], ids=["kept in float64", "converted in every round"])
def test_what_is_kept_from_round_to_round_changes_no_result(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_gradient, "KEPT_NUMBERS", 10**6 if kept else 0)
    table = table_of(NETWORK, 11, seed=19)
    gradients = ClippedGradients(NETWORK, parts_of(table), table.labels, clip=0.5)
    for seed in (20, 21, 20):
        weights = weights_of(NETWORK, seed)
        expected, _ = clipped_sum(by_vmap(table, weights), NETWORK.layout, clip=0.5)
        np.testing.assert_allclose(gradients.sum(weights), expected, rtol=1e-10, atol=1e-12)


class Difference:
    """A layer with a time axis whose δ take either sign: the logit is the weighted outputs' alternating sum."""

    additive = False
    layout = ParameterLayout((Block(name="weight", shape=(1, 2), modality=None),))

    def initial_weights(self, *, seed: int, base_rate: float) -> np.ndarray:
        return np.zeros(2)

    def design(self, modality: str, codes: np.ndarray, dense: np.ndarray) -> np.ndarray:
        return dense

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        inputs = torch.from_numpy(np.ascontiguousarray(dense["series"], dtype=np.float64))
        outputs = inputs @ weights.reshape(2, 1)
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        return outputs.squeeze(-1) @ signs, [LinearStep(weight="weight", bias=None, inputs=inputs, outputs=outputs)]


def test_a_gradient_that_cancels_over_time_is_clipped_by_the_norm_that_is_left() -> None:
    # Gradient: sigmoid(0) times the difference of the two steps, (3, 4) / 2. The squares of 2**40 would hide it.
    series = np.array([[[2.0**40 + 3, 2.0**40 + 4], [2.0**40, 2.0**40]]])
    gradients = ClippedGradients(Difference(), {"series": series}, np.zeros(1, dtype=np.int8), clip=1.0)
    result = gradients.sum(np.zeros(2))
    np.testing.assert_allclose(result, [0.6, 0.8], rtol=1e-12)
    assert exact_square(result) <= 1
    free = ClippedGradients(Difference(), {"series": series}, np.zeros(1, dtype=np.int8), clip=2.5000001)
    np.testing.assert_allclose(free.sum(np.zeros(2)), [1.5, 2.0], rtol=1e-15)


@settings(deadline=None, max_examples=40)
@given(
    model=st.sampled_from([NETWORK, LOGISTIC]),
    held=st.sampled_from(HELD),
    seed=st.integers(0, 2**32),
    clip=st.floats(1e-6, 1e-2),
)
def test_rounding_never_lets_a_clipped_gradient_out_of_the_ball(
    model: LinearStack, held: tuple[str, ...], seed: int, clip: float
) -> None:
    table = table_of(model, 1, seed=seed, held=held)
    square = exact_square(ours(model, table, weights_of(model, seed + 1, 0.1), clip=clip))
    # Not outside, and no further inside than the margin for the d + 64 roundings.
    margin = Fraction(model.layout.size + 64, 2**50)
    assert (1 - margin) * Fraction(clip) ** 2 <= square <= Fraction(clip) ** 2


@pytest.mark.parametrize("where", ["weights", "data"])
def test_a_number_that_is_not_finite_raises_because_no_scaling_bounds_it(where: str) -> None:
    table, weights = table_of(NETWORK, 4, seed=10), weights_of(NETWORK, 11)
    if where == "weights":
        weights[3] = np.nan
    else:
        table.modalities["application"].dense[2, 1] = np.inf
        table.modalities["application"].dense[2, 2] = -np.inf
        weights[:] = 1.0
        table.modalities["repayment"].dense[1, -1] = np.nan
    with pytest.raises(NotFiniteError):
        ours(NETWORK, table, weights, clip=1.0)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("model", [NETWORK, LOGISTIC], ids=["network", "logistic"])
def test_the_largest_weights_that_a_request_may_carry_stay_finite(model: LinearStack, sign: float) -> None:
    weights = sign * np.where(np.arange(model.layout.size) % 3 == 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)
    table = table_of(model, 20, seed=12)
    for part in table.modalities.values():
        # The largest inputs there are: dense numbers end at 1, active bins may lie above it.
        part.dense[:] = np.where(np.abs(part.dense) <= 1, np.sign(part.dense), part.dense)
    assert np.isfinite(ours(model, table, weights, clip=1.0)).all()


def test_a_borrower_without_gradient_is_not_divided_by_zero() -> None:
    # Logits of plus and minus a million: sigmoid is exact, so the right label leaves a gradient of zero.
    weights = np.zeros(LOGISTIC.layout.size)
    weights[LOGISTIC.layout.slices()["bias"]] = 1e6
    table = table_of(LOGISTIC, 5, seed=13)
    table.labels[:] = 1
    assert not ours(LOGISTIC, table, weights, clip=1.0).any()


@pytest.mark.parametrize("clip", [0.0, 3e-165, 9e-7, 2e6, float("nan")])
def test_a_clip_at_which_squared_norms_leave_the_range_of_float64_is_refused(clip: float) -> None:
    # With 3e-165 the norm of a small gradient underflowed to zero, passed unclipped, and the grid blew it up.
    with pytest.raises(ConfigValueError):
        NetworkGradient(LOGISTIC, table_of(LOGISTIC, 3, seed=1), clip=clip, grid=256)


@pytest.mark.parametrize("bias", [-20.0, -373.0, -700.0])
def test_one_borrower_with_a_vanishing_gradient_stays_inside_the_bound(bias: float) -> None:
    weights = np.zeros(LOGISTIC.layout.size)
    weights[LOGISTIC.layout.slices()["bias"]] = bias
    table = table_of(LOGISTIC, 1, seed=2)
    values = integers(LOGISTIC, table, weights, clip=1e-6, grid=1000).astype(object)
    bounds = network_bounds(LOGISTIC, HELD[2], grid=1000, public_borrowers=10)
    assert bounds.sensitivity_squared is not None
    assert sum(value**2 for value in values) <= bounds.sensitivity_squared


@pytest.mark.parametrize("model", [NETWORK, LOGISTIC], ids=["network", "logistic"])
@pytest.mark.parametrize("at_once", [None, 3], ids=["at once", "in slices"])
def test_a_sampled_step_sums_the_borrowers_of_its_batch(
    model: LinearStack, at_once: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, weights = table_of(model, 17, seed=24), weights_of(model, 25)
    if at_once:
        each = linear_stack.NUMBERS_AT_ONCE // borrowers_at_once(model, parts_of(table))
        monkeypatch.setattr(linear_stack, "NUMBERS_AT_ONCE", each * at_once)
    gradients = ClippedGradients(model, parts_of(table), table.labels, clip=0.5)
    whole = gradients.sum(weights)
    for batch in (np.arange(17) % 3 == 1, np.arange(17) < 12, np.ones(17, bool)):
        expected = ours(model, table.take(batch), weights, clip=0.5)
        np.testing.assert_allclose(gradients.sum(weights, batch), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(gradients.sum(weights), whole)
    nobody = NetworkGradient(model, table, clip=0.5, grid=100)
    assert not nobody.integer_sum(weights, round_number=2, batch=np.zeros(17, bool)).values.any()
