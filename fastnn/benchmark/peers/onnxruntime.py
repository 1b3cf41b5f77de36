"""ONNX Runtime, which only predicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

from fastnn._types import Array
from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer

_OPSET = 13


class Model:
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            _serialized(task), options, providers=["CPUExecutionProvider"]
        )

    def train(self) -> None:
        raise NotImplementedError

    def predictor(self, X: Array) -> Callable[[], object]:
        return partial(self._run, {"h0": X})

    def _run(self, feed: dict[str, Array]) -> object:
        return self.session.run(None, feed)[0]


def _serialized(task: Task) -> bytes:
    """Return the model: h0 is the input, z1 h1 z2 ... what the layers make of it."""
    nodes, constants = [], []
    weights = task.weights()
    for i, (W, b) in enumerate(weights, 1):
        constants += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [f"h{i - 1}", f"W{i}", f"b{i}"], [f"z{i}"]))
        activation = "Relu"
        if i == len(weights):
            activation = "Identity" if task.case.regression else "Softmax"
        nodes.append(helper.make_node(activation, [f"z{i}"], [f"h{i}"]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(task.X.dtype))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("h0", kind, [None, task.case.sizes[0]])],
        [helper.make_tensor_value_info(f"h{len(weights)}", kind, [None, task.case.sizes[-1]])],
        constants,
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(
        graph, opset_imports=opset, ir_version=helper.find_min_ir_version_for(opset)
    )
    return bytes(model.SerializeToString())


PEER = Peer("ONNX Runtime", onnxruntime.__version__, Model, trains=False)
