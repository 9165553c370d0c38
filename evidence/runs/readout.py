"""What is measured of a trained network, and when: the same for every experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from lai.batchnorm import set_exact_statistics
from lai.gradient import value_and_input_gradient
from lai.metrics import output_variance, rmse, sensitivity

if TYPE_CHECKING:
    from evidence.data import Housing

LAST_EPOCHS, EVERY = 20, 2
"""An evaluation is the mean over every second of the last twenty epochs, or of the last fifth of a shorter training: with one Lai
batch in a hundred these moments lie at all distances from the last one, and their mean has little of the swing between two."""


def moments(end: int, epochs: int) -> list[int]:
    """The epochs after which a network is measured that is trained in ``epochs`` epochs of its own before epoch ``end``.

    >>> moments(200, 100)
    [181, 183, 185, 187, 189, 191, 193, 195, 197, 199]
    >>> moments(10, 10), moments(0, 0)
    ([9], [])
    """
    last = max(1, min(LAST_EPOCHS, epochs // 5)) if epochs else 0
    return list(range(end - 1, end - 1 - last, -EVERY))[::-1]


NOISE = 0.3
"""Of the noise on the inputs of ``rmse_noisy``, in standard deviations of each feature."""


class Moment(NamedTuple):
    """What is measured of a network at one moment: with exact statistics, and with the running ones that training left."""

    exact: dict[str, float]
    running: dict[str, float]


def measure(model: nn.Module, data: Housing) -> Moment:
    """Measure a network; its statistics are exact afterwards (:func:`lai.set_exact_statistics` on the training rows).

    Parameters
    ----------
    model : Module from (N, d) to (N,)
    data : Housing
        On the model's device.
    """
    running = _measured(model, data)
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return Moment(running, running)
    set_exact_statistics(model, data.train.x, batch_size=len(data.train.x))
    return Moment(_measured(model, data), running)


def _measured(model: nn.Module, data: Housing) -> dict[str, float]:
    training, (x, y) = model.training, data.val
    value, k = value_and_input_gradient(model.eval(), x, create_graph=False)
    squares, output = k.double().square(), value.detach().double()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)  # the same for all
    out = {
        "rmse": rmse(model, x, y),
        "rmse_train": rmse(model, data.train.x, data.train.y),
        "rmse_noisy": rmse(model, x + NOISE * data.train.x.std(0) * noise, y),
        "variance": output_variance(model, data.test.x),
        "variance_val": output.var(correction=0).item(),
        "covariance": ((output - output.mean()) * (y.double() - output)).mean().item(),
        "rms_k": squares.sum(1).mean().sqrt().item(),
    }
    for name, values in (("k", squares.mean(0).sqrt()), ("s", sensitivity(model, data.test.x))):
        out |= {f"{name}_{j}": value for j, value in enumerate(values.tolist(), 1)}
    model.train(training)
    return out


def evaluation(taken: Sequence[Moment]) -> dict[str, float]:
    """The columns of a table, of what was measured at the moments of one training.

    Parameters
    ----------
    taken : sequence of Moment
        At least one; the last after the last step.

    Returns
    -------
    dict
        The main evaluation, averaged over the moments, with exact statistics: ``rmse`` (validation rows), ``rmse_train`` and
        ``rmse_noisy`` (validation rows, Gaussian noise of ``NOISE`` on all inputs); ``variance`` (of the outputs for the test
        rows), ``variance_val`` (for the validation rows) and ``covariance`` (there, of outputs and residuals y - ŷ); ``rms_k`` (root mean square over validation rows of the norm of the
        slope) and ``k_1`` … ``k_d`` (of each direction's slope); ``s_1`` … ``s_d`` (:func:`lai.sensitivity` on the test rows).
        The same after the last step, with running statistics, which is likely how the paper reads its networks:
        ``rmse_last``, …, ``k_last_1``, …, ``s_last_1``, … Between the two, of error and variance: averaged with running
        statistics, ``rmse_running`` and ``variance_running``, and after the last step with exact ones, ``rmse_exact_last`` and
        ``variance_exact_last``. In units of the target; slopes in target per raw feature.

    Source: paper, sections 6.1 ("Loss", "Var") and 6.2; slopes are ours.

    Examples
    --------
    >>> early, late = {"rmse": 1.0, "variance": 4.0, "s_1": 2.0}, {"rmse": 3.0, "variance": 2.0, "s_1": 1.0}
    >>> table = evaluation([Moment(early, early), Moment(late, late)])
    >>> table["rmse"], table["rmse_last"], table["s_1"], table["s_last_1"]
    (2.0, 3.0, 1.5, 1.0)
    """

    def mean(parts: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
        return {name: sum(part[name] for part in parts) / len(parts) for name in names}

    names, two, last = list(taken[-1].exact), ("rmse", "variance"), taken[-1]
    out = mean([moment.exact for moment in taken], names)
    out |= {_last(name): last.running[name] for name in names}
    out |= {f"{name}_running": value for name, value in mean([moment.running for moment in taken], two).items()}
    return out | {f"{name}_exact_last": last.exact[name] for name in two}


def _last(name: str) -> str:
    kind, _, number = name.rpartition("_")
    return f"{kind}_last_{number}" if number.isdigit() else f"{name}_last"
