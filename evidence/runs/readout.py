"""What is measured of a trained network, the same for every experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lai.gradient import value_and_input_gradient
from lai.metrics import output_variance, rmse, sensitivity

if TYPE_CHECKING:
    from evidence.data import Housing


def read_out(model: nn.Module, data: Housing, batch_size: int) -> dict[str, float]:
    """Error, variance, slopes and sensitivities of a network, with running and with recomputed statistics.

    Leaves the recomputed statistics (:func:`set_precise_statistics`) in the model.

    Parameters
    ----------
    model : Module from (N, d) to (N,)
    data : Housing
        On the model's device.
    batch_size : int
        Of the pass that recomputes BatchNorm's statistics.

    Returns
    -------
    dict
        ``rmse`` (validation), ``variance`` (of the outputs for the test rows), ``rms_k`` (root mean square over
        validation rows of the norm of the slope), ``k_1`` … ``k_d`` (of each direction's slope), ``s_1`` … ``s_d``
        (:func:`lai.sensitivity` on the test rows): statistics recomputed over the training rows. ``rmse_running``,
        ``variance_running``, ``s_running_1`` …: BatchNorm's running statistics, as training left them; the same
        where there is no BatchNorm. In units of the target; slopes in target per raw feature.

    Source: paper, sections 6.1 ("Loss", "Var") and 6.2; slopes are ours.
    """
    x_test = data.test.x
    out = {"rmse_running": rmse(model, *data.val), "variance_running": output_variance(model, x_test)}
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    running = sensitivity(model, x_test) if normed else None
    set_precise_statistics(model, data.train.x, batch_size)
    precise = sensitivity(model, x_test)
    model.eval()
    _, k = value_and_input_gradient(model, data.val.x, create_graph=False)
    squares = k.double().square()
    out |= {"rmse": rmse(model, *data.val), "variance": output_variance(model, x_test)}
    out["rms_k"] = squares.sum(1).mean().sqrt().item()
    for name, values in (
        ("k", squares.mean(0).sqrt().tolist()),
        ("s", precise.tolist()),
        ("s_running", (precise if running is None else running).tolist()),
    ):
        out |= {f"{name}_{j}": value for j, value in enumerate(values, 1)}
    return out


def set_precise_statistics(model: nn.Module, x: Tensor, batch_size: int) -> None:
    """Replace BatchNorm's running statistics by averages over one pass through ``x``.

    Running statistics are an exponential average over the last few batches, and jitter with them; this is the
    read-out without that noise. A short last batch counts like a full one. Does nothing to a model without BatchNorm.
    """
    batches = [batch for batch in x.split(batch_size) if len(batch) > 1]  # BatchNorm cannot take one row alone
    torch.optim.swa_utils.update_bn(batches, model)
