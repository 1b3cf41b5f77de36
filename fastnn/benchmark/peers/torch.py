"""PyTorch: eager, with its fused Adam and its inference mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fastnn._types import Array
from fastnn.benchmark.cases import Task
from fastnn.benchmark.peers import Peer


class Model:
    """See `fastnn.benchmark.peers.Model`."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        case = task.case
        self.batch = case.batch
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.net = _network(task)
        self.loss = nn.MSELoss() if case.regression else nn.CrossEntropyLoss()
        self.last = nn.Identity() if case.regression else nn.Softmax(1)
        self.optimizer = torch.optim.Adam(self.net.parameters(), fused=True)

    def train(self) -> None:
        for rows in torch.randperm(len(self.X)).split(self.batch):
            X, y = self.X.index_select(0, rows), self.y.index_select(0, rows)
            self.optimizer.zero_grad()
            self.loss(self.net(X), y).backward()
            self.optimizer.step()

    def predictor(self, X: Array) -> Callable[[], object]:
        rows = torch.from_numpy(X)
        net = nn.Sequential(self.net, self.last)

        def predict() -> object:
            with torch.inference_mode():
                return net(rows)

        return predict


def _network(task: Task) -> nn.Module:
    layers: list[nn.Module] = []
    for W, b in task.weights():
        layer = nn.Linear(*W.shape)
        layer.weight = nn.Parameter(torch.from_numpy(W).T.contiguous())
        layer.bias = nn.Parameter(torch.from_numpy(b))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PEER = Peer("PyTorch", torch.__version__, Model)
