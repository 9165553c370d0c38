"""The book's experiments once more, in plain eager PyTorch, from the book's page on reproducibility and nothing else.

It shares no code with the library; `tests/evidence/test_second_implementation.py` compares its tables with the book's.
"""

import copy
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"]
BATCH = 512


def read(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Features and target of `train.csv`, features of `test.csv`."""
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    tables = train[FEATURES], train["MedHouseVal"], test[FEATURES]
    x, y, x_test = (torch.tensor(table.to_numpy(np.float32)) for table in tables)
    return x, y, x_test


def split(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the validation rows and of the training rows."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[: rows // 5], order[rows // 5 :]


class Network(nn.Module):
    """8-64-32-1: standardised features and SiLU if `sound`, otherwise raw features, BatchNorm and ReLU.

    BatchNorm is written out, because the slopes and the evaluations need it with statistics from elsewhere.
    """

    def __init__(self, x: Tensor, sound: bool) -> None:
        super().__init__()
        self.sound = sound
        self.linears = nn.ModuleList([nn.Linear(8, 64), nn.Linear(64, 32), nn.Linear(32, 1)])
        self.scales = nn.ParameterList([torch.ones(64), torch.ones(32)])
        self.shifts = nn.ParameterList([torch.zeros(64), torch.zeros(32)])
        self.centre = x.mean(0) if sound else torch.zeros(8)
        self.spread = x.std(0, correction=0) if sound else torch.ones(8)
        self.running = [(torch.zeros(n), torch.ones(n)) for n in (64, 32)]

    def forward(self, x: Tensor, statistics: list | None = None) -> tuple[Tensor, list]:
        """The outputs, and the (mean, variance) that BatchNorm used: those of `x` itself unless they are given."""
        h, used = (x - self.centre) / self.spread, []
        for i in range(2):
            h = self.linears[i](h)
            if self.sound:
                h = F.silu(h)
                continue
            mean = statistics[i][0] if statistics else h.mean(0)
            h = h - mean
            variance = statistics[i][1] if statistics else h.square().mean(0)
            used.append((mean, variance))
            h = F.relu(h * (torch.rsqrt(variance + 1e-5) * self.scales[i]) + self.shifts[i])
        return self.linears[2](h).squeeze(1), used


def slopes(network: Network, x: Tensor, statistics: list | None, graph: bool) -> Tensor:
    """The gradient of the sum of the outputs by each row; with statistics given, each row's own slope."""
    x = x.detach().requires_grad_()
    outputs, _ = network(x, statistics)
    return torch.autograd.grad(outputs.sum(), x, create_graph=graph)[0]


def lai_loss(errors: Tensor, k: Tensor, lam: Tensor) -> Tensor:
    """The mean of e² times the norm, within a row, of the factors of its features."""
    factors = torch.maximum(k**2, lam) / ((1 + k**2) * lam.clamp(max=1))
    return (errors**2 * torch.linalg.vector_norm(factors, dim=1)).mean()


def batch_loss(network: Network, x: Tensor, y: Tensor, lam: Tensor | None, protocol: str) -> Tensor:
    """The loss of a batch, which also moves the running statistics; MSE where `lam` is None."""
    outputs, statistics = network(x)
    # Torch's running variance has n - 1 below.
    seen = [(m.detach(), v.detach() * len(x) / (len(x) - 1)) for m, v in statistics]
    network.running = [
        (0.9 * m + 0.1 * now_m, 0.9 * v + 0.1 * now_v)
        for (m, v), (now_m, now_v) in zip(network.running, seen, strict=False)
    ]
    if lam is None:
        return F.mse_loss(outputs, y)
    k = slopes(network, x, statistics if protocol == "corrected" else None, graph=True)
    return lai_loss(outputs - y, k, lam)


def measure(network: Network, data: tuple[Tensor, ...], exact: bool, seed: int) -> dict[str, float]:
    """RMSE and slope on the validation rows, variance and sensitivity to the last feature on the test rows."""
    x, _, x_valid, y_valid, x_test = data
    with torch.no_grad():
        statistics = network(x)[1] if exact else network.running
        noise = torch.randn(len(x_test), generator=torch.Generator().manual_seed(seed + 30_000))
        noisy = x_test.clone()
        noisy[:, 7] *= 1 + noise / 2
        valid, test, moved = (network(rows, statistics)[0] for rows in (x_valid, x_test, noisy))
    k = slopes(network, x_valid, statistics, graph=False)
    return {
        "rmse": F.mse_loss(valid, y_valid).sqrt().item(),
        "variance": test.var(correction=0).item(),
        "rms_k": (k**2).sum(1).mean().sqrt().item(),
        "s_8": (moved - test).abs().mean().item(),
    }


def train(arms, seed, source, pretraining=100, epochs=100, averaged=10) -> list[dict[str, float]]:
    """The measures of `arms`, (protocol, λ or its list or None for MSE, α) with one kind of network, of one seed."""
    x_all, y_all, x_test = source
    held, kept = split(len(x_all), seed)
    data = x_all[kept], y_all[kept], x_all[held], y_all[held], x_test
    sound = arms[0][0] == "sound"
    with torch.random.fork_rng():
        torch.manual_seed(seed + 10_000)
        start = Network(data[0], sound)
    start_optimiser = torch.optim.Adam(start.parameters(), lr=1e-3 if sound else 1e-4, fused=True)
    batches, per_epoch = np.random.default_rng(seed), len(kept) // BATCH
    u = batches.uniform()
    orders = [torch.from_numpy(batches.permutation(len(kept))) for _ in range(pretraining + epochs)]
    ranks = [batches.permutation(per_epoch) for _ in range(epochs)]

    def epoch(network, optimiser, rows, lai=(), lam=None, protocol="MSE"):
        for batch, i in enumerate(rows[: per_epoch * BATCH].split(BATCH)):
            loss = batch_loss(network, data[0][i], data[1][i], lam if batch in lai else None, protocol)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    for rows in orders[:pretraining]:
        epoch(start, start_optimiser, rows)
    results = []
    for protocol, lam, alpha in arms:
        network = copy.deepcopy(start)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3 if sound else 1e-4, fused=True)
        optimiser.load_state_dict(copy.deepcopy(start_optimiser.state_dict()))
        lam, measures = None if lam is None else torch.tensor(lam), []
        for e, (rows, rank) in enumerate(zip(orders[pretraining:], ranks, strict=True)):
            due = [math.floor(alpha * per_epoch * t + u) for t in (e, e + 1)]
            epoch(network, optimiser, rows, set(rank[: due[1] - due[0]].tolist()), lam, protocol)
            left = epochs - 1 - e
            if left % 2 == 0 and left < 2 * averaged:
                measures.append(measure(network, data, True, seed))
        last = measure(network, data, False, seed)
        averages = {key: float(np.mean([m[key] for m in measures])) for key in last}
        results.append(averages | {f"{key}_last": value for key, value in last.items()})
    return results
