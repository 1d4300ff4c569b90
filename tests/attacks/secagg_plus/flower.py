"""Flower's own SecAgg+ in one process: the installed mod and the installed workflow, nothing of them rewritten.

Members run ``secaggplus_mod`` around an app that answers with a fixed vector; the server runs the stages of
``SecAggPlusWorkflow``. Messages cross as protobuf, through Flower's own serialisation. Only the carrier is ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from attacks.secagg_plus.masks import MODULUS, masked_vector, opened, own_mask, pair_mask, pair_secret, records_of
from attacks.secagg_plus.relay import SwappingRelay
from attacks.secagg_plus.target import Flags, HaltedRoundError, Lost, Residues, Vector
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.message_type import MessageType
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState, secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key, Stage
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.compat.common import recorddict_compat
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.server import LegacyContext
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow, WorkflowState
from flwr.serverapp.grid import Grid
from flwr.supercore.task_identity import TaskIdentity

CLIPPING_RANGE, QUANTIZATION_RANGE, MAX_WEIGHT = 8.0, 1 << 22, 1000.0
"""Flower's defaults."""
RUN, SERVER, FIRST_NODE = 7, 1, 1001
_SILENT_FROM: dict[Lost, str] = {"shares": Stage.SHARE_KEYS, "upload": Stage.COLLECT_MASKED_VECTORS}


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one member's training app answers."""

    vector: Vector
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def quantum(self) -> float:
        """The largest error of Flower's rounding once the weight is divided out again."""
        return 2 * CLIPPING_RANGE / QUANTIZATION_RANGE * MAX_WEIGHT / self.examples


class FlowerMember:
    """One node: Flower's mod, its context, and an app that has trained already."""

    def __init__(self, node: int, update: Update) -> None:
        self.node, self._update = node, update
        self._context = Context(run_id=RUN, node_id=node, node_config={}, state=RecordDict(), run_config={})

    @property
    def state(self) -> SecAggPlusState:
        """Everything the node keeps between messages; only the node and its corrupter look."""
        return SecAggPlusState(**self._context.state.config_records[RECORD_KEY_STATE])

    def answer(self, message: Message) -> Message:
        return secaggplus_mod(message, self._context, self._train)

    def _train(self, message: Message, _context: Context) -> Message:
        result = FitRes(
            status=Status(Code.OK, ""),
            parameters=ndarrays_to_parameters([self._update.vector]),
            num_examples=self._update.examples,
            metrics=dict(self._update.metrics),
        )
        return Message(recorddict_compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)


class Carrier(Grid):
    """Takes messages to the members and back as bytes; whoever holds it may rewrite them."""

    def __init__(self, members: Iterable[FlowerMember]) -> None:
        self.members = {member.node: member for member in members}
        self.relays: list[SwappingRelay] = []
        self.stated_threshold: int | None = None
        self.silent: dict[int, str] = {}
        self.replies: dict[str, dict[int, Message]] = defaultdict(dict)
        """By stage and node, as they left the node."""
        self.complaints: dict[int, str] = {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        answers = (self._exchange(message) for message in messages)
        return [answer for answer in answers if answer is not None]

    def _exchange(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        arrived = _across_the_wire(message)
        stage = str(records_of(arrived)[Key.STAGE])
        if node in self.silent and Stage.all().index(stage) >= Stage.all().index(self.silent[node]):
            return None
        if self.stated_threshold is not None and stage == Stage.SETUP:
            records_of(arrived)[Key.THRESHOLD] = self.stated_threshold
        for relay in self.relays:
            relay.towards(node, arrived)
        try:
            reply = self.members[node].answer(arrived)
        except Exception as error:  # noqa: BLE001 - a SuperNode reports whatever its app raises
            self.complaints[node] = type(error).__name__
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)
        self.replies[stage][node] = _across_the_wire(reply)
        returned = _across_the_wire(reply)
        for relay in self.relays:
            relay.back(node, returned)
        return returned

    def _never_called(self, *_: object, **__: object) -> Any:
        raise NotImplementedError("the stages of the workflow only send and receive")

    run = property(_never_called)
    set_run = create_message = get_node_ids = get_nodes = push_messages = pull_messages = _never_called


class EveryNode(FedAvg):
    """Ask every node; Flower's own averaging of what comes."""

    def __init__(self, grid: Grid, nodes: Iterable[int]) -> None:
        super().__init__()
        self._proxies = [GridClientProxy(node, grid, RUN) for node in nodes]

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
        return [(proxy, FitIns(parameters, {})) for proxy in self._proxies]


def _across_the_wire(message: Message) -> Message:
    return message_from_proto(WireMessage.FromString(message_to_proto(message).SerializeToString()))


@contextmanager
def server_process() -> Iterator[None]:
    """Be the process that Flower's messages come from; it keeps that in a class attribute."""
    before = TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id
    TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = RUN, SERVER, 0
    try:
        yield
    finally:
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = before


class FlowerSecAggPlus:
    """A ``Target``: one round of Flower's SecAgg+ over ``updates``, everybody everybody's neighbour."""

    def __init__(self, updates: Mapping[str, Update], *, threshold: int) -> None:
        self.names = tuple(updates)
        self._nodes = {name: FIRST_NODE + place for place, name in enumerate(updates)}
        self._carrier = Carrier(FlowerMember(self._nodes[name], update) for name, update in updates.items())
        self._threshold = threshold
        self._corrupt: list[FlowerMember] = []
        self._seed_shares: dict[int, set[bytes]] = defaultdict(set)
        self._key_shares: dict[int, set[bytes]] = defaultdict(set)
        self._workflow = SecAggPlusWorkflow(
            1.0,
            threshold,
            max_weight=MAX_WEIGHT,
            clipping_range=CLIPPING_RANGE,
            quantization_range=QUANTIZATION_RANGE,
            modulus_range=MODULUS,
        )
        self._server = WorkflowState()
        plain = Context(run_id=RUN, node_id=SERVER, node_config={}, state=RecordDict(), run_config={})
        self._context = LegacyContext(plain, strategy=EveryNode(self._carrier, self._nodes.values()))
        self._context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
        nothing_yet = ndarrays_to_parameters([np.zeros(1)])
        self._context.state.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(
            nothing_yet, keep_input=False
        )

    # The attacker's moves.

    def corrupt(self, name: str) -> None:
        self._corrupt.append(self._carrier.members[self._nodes[name]])

    def swap_keys(self, victim: str) -> None:
        self._carrier.relays.append(SwappingRelay(self._nodes[victim]))

    def state_threshold(self, threshold: int) -> None:
        self._carrier.stated_threshold = self._threshold = threshold

    def uploads(self) -> dict[str, Residues]:
        self._until_uploads()
        sent = self._carrier.replies[Stage.COLLECT_MASKED_VECTORS]
        return {name: masked_vector(sent[node]) for name, node in self._nodes.items() if node in sent}

    def ask(self, *, living: Collection[str], dead: Collection[str]) -> None:
        question = {
            Key.STAGE: Stage.UNMASK,
            Key.ACTIVE_NODE_ID_LIST: [self._nodes[name] for name in living],
            Key.DEAD_NODE_ID_LIST: [self._nodes[name] for name in dead],
        }
        with server_process():
            messages = [
                Message(RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(dict(question))}), node, MessageType.TRAIN)
                for node in self._nodes.values()
            ]
            replies = self._carrier.send_and_receive(messages)
        if all(reply.has_error() for reply in replies):
            raise HaltedRoundError(self._complaints())
        for reply in replies:
            owners, shares = records_of(reply)[Key.NODE_ID_LIST], records_of(reply)[Key.SHARE_LIST]
            for place, (owner, share) in enumerate(zip(owners, shares, strict=True)):
                (self._seed_shares if place < len(living) else self._key_shares)[owner].add(share)

    def known_masks(self, victim: str) -> Residues:
        node = self._nodes[victim]
        size = len(masked_vector(self._carrier.replies[Stage.COLLECT_MASKED_VECTORS][node]))
        known = np.zeros(size, np.uint32)
        seed = self._seed_of(node)
        if seed is not None:
            known += own_mask(seed, size)
        for relay in self._carrier.relays:
            known += relay.victims_pair_masks(size)
        for other in set(self._nodes.values()) - {node}:
            secret = self._pair_secret_of(node, other)
            if secret is not None:
                known += pair_mask(secret, size, node=node, other=other)
        return known

    def plausible(self, residues: Residues) -> Flags:
        return residues <= QUANTIZATION_RANGE

    def decode(self, residues: Residues) -> Vector:
        weight = int(residues[0]) / QUANTIZATION_RANGE
        vector: Vector = dequantize([residues[1:]], CLIPPING_RANGE, QUANTIZATION_RANGE)[0]
        return vector / weight if weight else np.full_like(vector, np.nan)

    def numbers_in_clear(self, victim: str) -> dict[str, float]:
        content = self._carrier.replies[Stage.COLLECT_MASKED_VECTORS][self._nodes[victim]].content
        records = [*content.metric_records.items(), *content.config_records.items()]
        return {
            f"{record}/{name}": number
            for record, fields in records
            for name, number in fields.items()
            if isinstance(number, int | float)
        }

    def finish(self, *, lost: Mapping[str, Lost]) -> Vector:
        self._carrier.silent = {self._nodes[name]: _SILENT_FROM[moment] for name, moment in lost.items()}
        self._until_uploads()
        with server_process():
            finished = self._workflow.unmask_stage(self._carrier, self._context, self._server)
        if not finished:
            raise HaltedRoundError(self._complaints())
        record = self._context.state.array_records[MAIN_PARAMS_RECORD]
        parameters = recorddict_compat.arrayrecord_to_parameters(record, keep_input=True)
        mean: Vector = parameters_to_ndarrays(parameters)[0]
        return mean

    # What only a test may look at.

    def pair_secret(self, one: str, other: str) -> bytes:
        """Return the secret of two honest members, from their own memory: the truth that a search must find."""
        state = self._carrier.members[self._nodes[one]].state
        return pair_secret(state.sk1, state.public_keys_dict[self._nodes[other]][0])

    def _until_uploads(self) -> None:
        if Stage.COLLECT_MASKED_VECTORS in self._carrier.replies:
            return
        workflow = self._workflow
        with server_process():
            for stage in (workflow.setup_stage, workflow.share_keys_stage, workflow.collect_masked_vectors_stage):
                if not stage(self._carrier, self._context, self._server):
                    raise HaltedRoundError(self._complaints())

    def _complaints(self) -> dict[str, str]:
        names = {node: name for name, node in self._nodes.items()}
        return {names[node]: error for node, error in self._carrier.complaints.items()}

    def _seed_of(self, node: int) -> bytes | None:
        held = [member.state.rd_seed_share_dict[node] for member in self._corrupt]
        passed = [share for relay in self._carrier.relays if relay.victim == node for share in relay.seed_shares]
        return opened({*self._seed_shares[node], *held, *passed}, self._threshold)

    def _pair_secret_of(self, node: int, other: int) -> bytes | None:
        """Return the secret that makes the pair mask in the upload of ``node``, if the attacker holds a key for it."""
        public = self._server.nid_to_publickeys
        held = [member.state.sk1_share_dict[node] for member in self._corrupt]
        key = opened({*self._key_shares[node], *held}, self._threshold)
        if key is not None:
            return pair_secret(key, public[other][0])
        for member in self._corrupt:
            if member.node == other:
                return pair_secret(member.state.sk1, public[node][0])
        return None
