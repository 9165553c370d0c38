"""Fit the generator behind ``load_housing("surrogate")`` to Kaggle's training rows and write evidence/data/surrogate.npz.

    LAI_DATA=folder/with/the/csv/files .venv/bin/python -m evidence.data.fit_surrogate            # fit, write, print quality
    LAI_DATA=folder/with/the/csv/files .venv/bin/python -m evidence.data.fit_surrogate --check    # print quality only

The file holds parameters, no rows:

- marginals: quantiles of each feature alone, at levels that are dense in both tails, so that the single row with
  503 people per household stays one in 37,137 and is not smeared over the top of the distribution;
- dependence: the features are turned into scores without far outliers; a mixture of 80 Gaussians with full covariances
  describes the scores, geography included. Only the order of the scores it draws is used;
- the house value: a 64-32 SiLU network, and the quantiles of the true values given the predictions of networks that
  had not seen the row (cross-fitting), which carry spread, skewness and the cap at 500,001 US$.

Every seed is fixed: on one machine with one set of package versions the file comes out the same byte for byte.
It takes about two minutes on one core. Afterwards put the printed hash into tests/evidence/test_data.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from evidence.data import generator, housing

Array = NDArray[np.float64]

COMPONENTS = 80
FOLDS = 5
EPOCHS = 60


def tail_levels(n: int) -> Array:
    """Quantile levels in (0, 1): the outermost order statistics, log-spaced tails, an even middle."""
    outer = (np.arange(6) + 0.5) / n
    log = np.geomspace(outer[-1], 0.02, 40)[1:]
    middle = np.linspace(0.02, 0.5, 130)[1:]
    half = np.concatenate([outer, log, middle])
    return np.concatenate([half, 1 - half[-2::-1]])


def to_scores(x: Array, rng: np.random.Generator) -> Array:
    """Each column stretched by an increasing function until a mixture of Gaussians can describe the table, (N, 8).

    Ranks as normal scores for most. The three averages per household keep their far tails, on a logarithmic scale:
    the few dozen places with both many rooms and many bedrooms, which make up most of that correlation, would
    otherwise be lost among the ranks. Ties are broken at random.
    """
    scores = np.empty_like(x)
    for j, name in enumerate(housing.FEATURES):
        if name in ("AveRooms", "AveBedrms", "AveOccup"):
            first, median, third = np.quantile(x[:, j], [0.25, 0.5, 0.75])
            noise = rng.uniform(-0.002, 0.002, len(x))
            scores[:, j] = np.arcsinh((x[:, j] + noise - median) / (2 * (third - first)))
        else:
            order = np.lexsort((rng.random(len(x)), x[:, j]))
            scores[order, j] = ndtri((np.arange(len(x)) + 0.5) / len(x))
    return (scores - scores.mean(0)) / scores.std(0)


def fit_mixture(scores: Array) -> dict[str, Array]:
    """Cumulative weights (C,), means (C, D) and lower Cholesky factors (C, D, D), heaviest component first."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(COMPONENTS, covariance_type="full", reg_covar=1e-4, max_iter=100, random_state=0)
    mixture.fit(scores)
    order = np.argsort(-mixture.weights_)
    return {
        "cumulative": np.cumsum(mixture.weights_[order]),
        "means": mixture.means_[order],
        "factors": np.linalg.cholesky(mixture.covariances_[order]),
    }


def network(d: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1))


def train_network(x: Tensor, y: Tensor, *, seed: int, epochs: int, batch: int = 256, lr: float = 3e-3) -> nn.Sequential:
    """A 64-32 SiLU network for standardised x (N, D) and y (N,), by Adam with a cosine schedule."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = network(x.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(x) // batch))
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for step in range(len(x) // batch):
            rows = order[step * batch : (step + 1) * batch]
            optimiser.zero_grad()
            nn.functional.mse_loss(model(x[rows])[:, 0], y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model


def predict(model: nn.Module, x: Tensor) -> Array:
    with torch.no_grad():
        return model(x)[:, 0].double().numpy()


def fit_teacher(x: Array, y: Array) -> dict[str, Array]:
    """The network's weights, and the quantiles of y given cross-fitted predictions."""
    low, high = np.quantile(x, [0.001, 0.999], axis=0)
    clipped = np.clip(x, low, high)
    mean, std = clipped.mean(0), clipped.std(0)
    inputs = torch.from_numpy((clipped - mean) / std).float()
    target = torch.from_numpy(y).float()

    fold = np.random.default_rng(1).permutation(len(x)) % FOLDS
    out_of_fold = np.empty(len(x))
    for k in range(FOLDS):
        rest = torch.from_numpy(np.flatnonzero(fold != k))
        model = train_network(inputs[rest], target[rest], seed=k, epochs=EPOCHS)
        out_of_fold[fold == k] = predict(model, inputs[torch.from_numpy(np.flatnonzero(fold == k))])
    teacher = train_network(inputs, target, seed=FOLDS, epochs=EPOCHS)
    print(f"teacher RMSE: in sample {rmse(predict(teacher, inputs), y):.4f}, out of fold {rmse(out_of_fold, y):.4f}")

    edges = np.quantile(out_of_fold, np.concatenate([[0, 0.01], np.linspace(0.025, 0.975, 39), [0.99, 1]]))
    edges[0], edges[-1] = -np.inf, np.inf
    bins = np.searchsorted(edges, out_of_fold, side="right") - 1
    levels = np.concatenate([[0, 0.002, 0.005, 0.01], np.linspace(0.02, 0.98, 57), [0.99, 0.995, 0.998, 1]])
    count = len(edges) - 1
    parameters = {
        "low": low,
        "high": high,
        "mean": mean,
        "std": std,
        "y_levels": levels,
        "y_predictions": np.array([out_of_fold[bins == b].mean() for b in range(count)]),
        "y_quantiles": np.array([np.quantile(y[bins == b], levels) for b in range(count)]),
    }
    for number, layer in enumerate(m for m in teacher if isinstance(m, nn.Linear)):
        parameters[f"weight{number}"] = layer.weight.detach().double().numpy().T
        parameters[f"bias{number}"] = layer.bias.detach().double().numpy()
    return parameters


def fit(x: Array, y: Array) -> dict[str, NDArray[np.float32]]:
    """All parameters of the generator, float32, for features x (N, 8) and target y (N,)."""
    parameters = fit_mixture(to_scores(x, np.random.default_rng(0)))
    parameters["levels"] = tail_levels(len(x))
    parameters["values"] = np.quantile(np.column_stack([x, y]), parameters["levels"], axis=0, method="hazen").T
    parameters |= fit_teacher(x, y)
    return {name: value.astype(np.float32) for name, value in sorted(parameters.items())}


def rmse(a: Array, b: Array) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def ks_distance(a: Array, b: Array) -> float:
    """The Kolmogorov-Smirnov distance between two samples."""
    both = np.concatenate([a, b])
    cdfs = [np.searchsorted(np.sort(s), both, side="right") / len(s) for s in (a, b)]
    return float(np.abs(cdfs[0] - cdfs[1]).max())


def quality(n_seeds: int = 3) -> None:
    """Print how far the surrogate is from Kaggle's rows: the measures of tests/evidence/test_data.py, for several seeds."""
    kaggle = housing.load_housing("kaggle")
    x = torch.cat([kaggle.train.x, kaggle.val.x]).double().numpy()
    y = torch.cat([kaggle.train.y, kaggle.val.y]).double().numpy()
    xv, yv = kaggle.val.x.double().numpy(), kaggle.val.y.double().numpy()
    print(f"real data: {kaggle.provenance}")

    def linear(xa: Array, ya: Array, xb: Array) -> Array:
        a = np.column_stack([np.ones(len(xa)), xa])
        return np.column_stack([np.ones(len(xb)), xb]) @ np.linalg.lstsq(a, ya, rcond=None)[0]

    def net(xa: Array, ya: Array, *others: Array) -> list[Array]:
        mean, std = xa.mean(0), xa.std(0)
        scaled = [torch.from_numpy((m - mean) / std).float() for m in (xa, *others)]
        model = train_network(scaled[0], torch.from_numpy(ya).float(), seed=0, epochs=20, batch=512, lr=1e-2)
        return [predict(model, m) for m in scaled[1:]]

    xt, yt = kaggle.train.x.double().numpy(), kaggle.train.y.double().numpy()
    real_linear = rmse(linear(xt, yt, xv), yv)
    real_net = rmse(net(xt, yt, xv)[0], yv)
    print(f"real rows: linear RMSE {real_linear:.4f}, 64-32 network RMSE {real_net:.4f}")
    real_corr = np.corrcoef(np.column_stack([x, y]).T)
    names = (*housing.FEATURES, housing.TARGET)
    for seed in range(n_seeds):
        part = housing.surrogate(len(x), seed)
        xs, ys = part.x.double().numpy(), part.y.double().numpy()
        ks = [ks_distance(a, b) for a, b in zip((*x.T, y), (*xs.T, ys), strict=True)]
        corr = np.abs(np.corrcoef(np.column_stack([xs, ys]).T) - real_corr)
        i, j = np.unravel_index(corr.argmax(), corr.shape)
        # The first rows serve as validation; the far outlier belongs to training, as in load_housing's split 0.
        n, far = len(xv), int(xs[:, 5].argmax())
        xs[[far, -1]], ys[[far, -1]] = xs[[-1, far]], ys[[-1, far]]
        own, real = net(xs[n:], ys[n:], xs[:n], xv)
        print(
            f"seed {seed}: KS {max(ks):.4f} ({names[int(np.argmax(ks))]}), "
            f"correlation off by {corr.max():.3f} ({names[i]}, {names[j]}), "
            f"linear {rmse(linear(xs[n:], ys[n:], xs[:n]), ys[:n]) / real_linear - 1:+.1%}, "
            f"network {rmse(own, ys[:n]) / real_net - 1:+.1%}, on real rows {rmse(real, yv) / real_net - 1:+.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not fit, only print the quality of the present file")
    parser.add_argument("--seeds", type=int, default=3, help="number of surrogate seeds in the quality table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    target = Path(__file__).with_name("surrogate.npz")
    if not arguments.check:
        kaggle = housing.load_housing("kaggle")
        x = torch.cat([kaggle.train.x, kaggle.val.x]).double().numpy()
        y = torch.cat([kaggle.train.y, kaggle.val.y]).double().numpy()
        new = target.with_name("surrogate.new.npz")  # replaced in one step: a reader never sees half a file
        np.savez_compressed(new, allow_pickle=False, **fit(x, y))
        new.replace(target)
        generator.parameters.cache_clear()
        print(f"wrote {target.name}: {target.stat().st_size / 1000:.0f} kB")
    print(housing.load_housing("surrogate").provenance)
    quality(arguments.seeds)


if __name__ == "__main__":
    main()
