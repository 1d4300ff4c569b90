"""One round of Flower's SecAgg+ on the clock: the installed client functions and the installed server workflow.

After the key exchange every member shares its secrets, masks its vector and reveals shares; the server runs the last
two stages of ``SecAggPlusWorkflow``. Transport, protobuf and the averaging by a strategy are outside the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import (
    Code,
    FitRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.compat.common import recorddict_compat
from flwr.server import LegacyContext
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow, WorkflowState
from flwr.serverapp.grid import Grid
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

Vector = NDArray[np.float32]

FIRST_NODE = 1001
EXAMPLES, MAX_WEIGHT = 1000, 1000.0
"""The full weight, so that Flower's rounding is as fine as it gets."""
SETTINGS: dict[str, Any] = {
    Key.CLIPPING_RANGE: 8.0,
    Key.TARGET_RANGE: 1 << 22,
    Key.MOD_RANGE: 1 << 32,
    Key.MAX_WEIGHT: MAX_WEIGHT,
}
"""Flower's defaults."""


class StoredReplies(Grid):
    """Answers the server's questions at once from what the members have computed; keeps the time of doing so."""

    def __init__(self) -> None:
        self.replies: dict[int, Callable[[], RecordDict]] = {}
        self.spent_ms = 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        begin = time.process_time()
        answered = [
            Message(self.replies[message.metadata.dst_node_id](), reply_to=message)
            for message in messages
            if message.metadata.dst_node_id in self.replies
        ]
        self.spent_ms += (time.process_time() - begin) * 1e3
        return answered

    def _never_called(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("the stages of the workflow only send and receive")

    run = property(_never_called)
    set_run = create_message = get_node_ids = get_nodes = push_messages = pull_messages = _never_called


class KeepsTheSum(FedAvg):
    """Takes the first result, which holds the unmasked mean; Flower's averaging of equal vectors is left out."""

    mean: NDArray[np.float64]

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> tuple[None, dict[str, Any]]:
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


@contextmanager
def server_process() -> Iterator[None]:
    """Be the process that Flower's messages come from; it keeps that in a class attribute."""
    before = TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id
    TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = 1, 1, 0
    try:
        yield
    finally:
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = before


class FlowerRound:
    """One round of SecAgg+ after its key exchange; every client function runs once per member, on the clock."""

    def __init__(self, vectors: Sequence[Vector], *, threshold: int) -> None:
        self.vectors, self.threshold = vectors, threshold
        self.nodes = [FIRST_NODE + place for place in range(len(vectors))]
        self.client_ms = dict.fromkeys(self.nodes, 0.0)
        self.states = {node: SecAggPlusState(nid=node) for node in self.nodes}
        self.public = {node: self._keys(node) for node in self.nodes}
        self.boxes = {node: self._shares(node) for node in self.nodes}
        self.uploads = {node: self._upload(node, vector) for node, vector in zip(self.nodes, vectors, strict=True)}

    def _keys(self, node: int) -> list[bytes]:
        stated = {
            Key.SAMPLE_NUMBER: len(self.nodes),
            Key.SHARE_NUMBER: len(self.nodes),
            Key.THRESHOLD: self.threshold,
            **SETTINGS,
        }
        made = _setup(self.states[node], ConfigRecord(stated))
        return [made[Key.PUBLIC_KEY_1], made[Key.PUBLIC_KEY_2]]

    def _timed(self, node: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        begin = time.process_time()
        made = work()
        self.client_ms[node] += (time.process_time() - begin) * 1e3
        return made

    def _shares(self, node: int) -> dict[int, bytes]:
        keys = ConfigRecord({str(owner): public for owner, public in self.public.items()})
        made = self._timed(node, lambda: _share_keys(self.states[node], keys))
        return dict(zip(made[Key.DESTINATION_LIST], made[Key.CIPHERTEXT_LIST], strict=True))

    def _upload(self, node: int, vector: Vector) -> dict[str, Any]:
        sources = [other for other in self.nodes if other != node]
        boxes = [self.boxes[other][node] for other in sources]
        received = ConfigRecord({Key.SOURCE_LIST: sources, Key.CIPHERTEXT_LIST: boxes})
        trained = ndarrays_to_parameters([vector])
        state = self.states[node]
        return self._timed(node, lambda: _collect_masked_vectors(state, received, EXAMPLES, trained))

    def reveal(self, node: int, *, living: list[int], dead: list[int], clock: bool) -> dict[str, Any]:
        """Return the shares that ``node`` hands over; with ``clock`` they count as its work."""
        lists = ConfigRecord({Key.ACTIVE_NODE_ID_LIST: living, Key.DEAD_NODE_ID_LIST: dead})
        work = lambda: _unmask(self.states[node], lists)  # noqa: E731
        return self._timed(node, work) if clock else work()

    def bytes_sent(self) -> int:
        """Return what the first member uploads: its boxes and its masked vector, without any framing around them."""
        node = self.nodes[0]
        return sum(map(len, self.boxes[node].values())) + sum(map(len, self.uploads[node][Key.MASKED_PARAMETERS]))

    def server_ms(self, *, lost: int, clock: bool) -> float:
        """Return what the server computes when ``lost`` members vanish before their upload; its mean is checked.

        With ``clock`` the shares that the others reveal count as their work; once a round, however often it finishes.
        """
        dead, living = self.nodes[:lost], self.nodes[lost:]
        shares = {node: self.reveal(node, living=living, dead=dead, clock=clock) for node in living}
        grid, strategy = StoredReplies(), KeepsTheSum()
        workflow = SecAggPlusWorkflow(1.0, self.threshold)
        plain = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        context = LegacyContext(plain, strategy=strategy)
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
        state = self._server_state(grid)
        with server_process():
            begin = time.process_time()
            grid.replies = {node: _reply_with(self.uploads[node], trained=True) for node in living}
            assert workflow.collect_masked_vectors_stage(grid, context, state)
            grid.replies = {node: _reply_with(shares[node], trained=False) for node in living}
            assert workflow.unmask_stage(grid, context, state)
            spent = (time.process_time() - begin) * 1e3 - grid.spent_ms
        expected = np.mean(self.vectors[lost:], axis=0, dtype=np.float64)
        assert np.abs(strategy.mean - expected).max() < 1e-5, "SecAgg+ did not return the mean"
        return spent

    def _server_state(self, grid: Grid) -> WorkflowState:
        everybody = set(self.nodes)
        return WorkflowState(
            nid_to_proxies={node: GridClientProxy(node, grid, 1) for node in self.nodes},
            nid_to_fitins={node: RecordDict() for node in self.nodes},
            sampled_node_ids=set(everybody),
            active_node_ids=set(everybody),
            num_shares=len(self.nodes),
            threshold=self.threshold,
            clipping_range=SETTINGS[Key.CLIPPING_RANGE],
            quantization_range=SETTINGS[Key.TARGET_RANGE],
            mod_range=SETTINGS[Key.MOD_RANGE],
            max_weight=MAX_WEIGHT,
            nid_to_neighbours={node: set(everybody) for node in self.nodes},
            nid_to_publickeys=dict(self.public),
            forward_srcs={node: [] for node in self.nodes},
            forward_ciphertexts={node: [] for node in self.nodes},
        )


def _reply_with(fields: Mapping[str, Any], *, trained: bool) -> Callable[[], RecordDict]:
    """Return how a member's answer is built; with ``trained`` the emptied result of its training is beside it."""

    def build() -> RecordDict:
        content = RecordDict()
        if trained:
            nothing = Parameters(tensors=[], tensor_type="numpy.ndarray")
            result = FitRes(status=Status(Code.OK, ""), parameters=nothing, num_examples=EXAMPLES, metrics={})
            content = recorddict_compat.fitres_to_recorddict(result, keep_input=False)
        content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord(dict(fields))
        return content

    return build
