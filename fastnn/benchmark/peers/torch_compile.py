"""PyTorch with the network compiled; only on request, since that takes long."""

from __future__ import annotations

import torch

from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer
from fastnn.benchmark.peers import torch as eager


class Model(eager.Model):
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.net = torch.compile(self.net)


PEER = Peer("PyTorch (compiled)", torch.__version__, Model, on_request=True)
