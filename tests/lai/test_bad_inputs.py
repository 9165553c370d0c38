"""One table of bad inputs: each is refused before anything is computed, and the error names the parameter and the value."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lai

X = torch.linspace(-1, 1, 24).reshape(8, 3)
Y = X.sum(1)
K = X.flip(0)


def model() -> lai.MLP:
    return lai.MLP(3, (4,), seed=0)


def fit(**changed: Any) -> Any:
    given = {"epochs": 1, "batch_size": 4, "lr": 0.01, "seed": 0, "device": "cpu", "criterion": lai.LaiLoss(0.1)}
    return lai.fit(changed.pop("model", model()), changed.pop("train", (X, Y)), **(given | changed))


def sweep(**changed: Any) -> Any:
    given = {"lams": [None, 0.1], "epochs": 1, "batch_size": 4, "seed": 0}
    return lai.Sweep([model()] * 2, lr=0.01, device="cpu").fit((X, Y), **(given | changed))


def choose(**changed: Any) -> Any:
    given = {"max_error": 0.1, "lams": [0.1], "epochs": 1, "batch_size": 4, "lr": 0.01, "seed": 0, "device": "cpu"}
    return lai.choose_lam(model(), (X, Y), (X, Y), **(given | changed))


def set_later(**changed: Any) -> Any:
    loss = lai.LaiLoss(0.1)
    for name, value in changed.items():
        setattr(loss, name, value)
    return loss(Y, Y, K)


def curvature(**changed: Any) -> Any:
    x = X.clone().requires_grad_()
    return lai.curvature_penalty(x.square().sum(1), x, **changed)


def regressor(**changed: Any) -> Any:
    from lai.sklearn import LaiRegressor

    return LaiRegressor(**({"epochs": 1, "device": "cpu"} | changed)).fit(X.numpy(), Y.numpy())


CALLS: dict[str, Callable[..., Any]] = {
    "lai_loss": lambda **o: lai.lai_loss(Y, Y, K, **o),
    "LaiLoss": lambda **o: lai.LaiLoss(**o),
    "directional_losses": lambda **o: lai.directional_losses(Y, Y, K, **o),
    "lai_factor": lambda **o: lai.lai_factor(K, **({"lam": 0.1} | o)),
    "check_lam": lambda **o: lai.check_lam(**o),
    "rescale_lam": lambda **o: lai.rescale_lam(**({"lam": 0.1} | o)),
    "LaiSchedule": lambda **o: lai.LaiSchedule(**({"alpha": 0.1} | o)),
    "MLP": lambda **o: lai.MLP(**({"n_features": 3} | o)),
    "FixedStatistics": lambda **o: lai.FixedStatistics(**({"model": model()} | o)),
    "Standardize": lambda **o: lai.Standardize(**({"mean": X[0], "std": X[7]} | o)),
    "set_exact_statistics": lambda **o: lai.set_exact_statistics(model(), **({"x": X} | o)),
    "LaiLoss, set later": set_later,
    "LaiSchedule.batches": lambda **o: lai.LaiSchedule(0.1).batches(**({"epoch": 0, "n_batches": 4} | o)),
    "LaiSchedule.points": lambda **o: lai.LaiSchedule(0.1, sampling="points").points(
        **({"epoch": 0, "sizes": [4]} | o)
    ),
    "rmse": lambda **o: lai.rmse(model(), **({"x": X, "y": Y} | o)),
    "output_variance": lambda **o: lai.output_variance(model(), **({"x": X} | o)),
    "sensitivity": lambda **o: lai.sensitivity(model(), **({"x": X} | o)),
    "value_and_input_gradient": lambda **o: lai.value_and_input_gradient(model(), X, **o),
    "WithSlopes": lambda **o: lai.WithSlopes(**({"model": model()} | o))(X),
    "curvature_penalty": curvature,
    "Sweep": lambda **o: lai.Sweep(**({"models": [model()], "lr": 0.01, "device": "cpu"} | o)),
    "Sweep.fit": sweep,
    "fit": fit,
    "choose_lam": choose,
    "LaiRegressor": regressor,
}

NO_LAM = (
    0,
    0.0,
    -1,
    -1e-9,
    math.nan,
    math.inf,
    -math.inf,
    "0.1",
    True,
    None,
    1j,
    [],
    [0.1, -1, 0.1],
    [0.1, math.nan, 1],
)
NO_FLAG = ("no", 1, 0, None)
NO_CHOICE = ("", "MSE", "other", 0)
NO_COUNT = (-1, 0.5, "1", True, None)
NO_SIZE = (0, *NO_COUNT)
NO_WEIGHT = (
    torch.full((8,), -1.0),
    torch.full((8,), math.nan),
    torch.zeros(8),
    torch.ones(7),
    1j * torch.ones(8),
    [1.0] * 8,
)
NO_MODULE = (len, "model", None, lai.MLP)
NO_TENSOR = ([1.0], np.ones(3), 1.0, None)
NO_RATE = (0, -1.0, math.nan, math.inf, "0.1", True)

BAD: dict[tuple[str, str], tuple] = {
    **{(call, "lam"): NO_LAM for call in ("lai_loss", "LaiLoss", "directional_losses", "lai_factor", "check_lam", "rescale_lam")},
    **{(call, "base"): ("", "MSE", "l2", 0, None, ("huber", 0), ("huber", -1), ("quantile", 1.5), ("quantile", "q"), ("mae", 1))
       for call in ("lai_loss", "LaiLoss", "directional_losses")},
    **{(call, "factor"): NO_CHOICE for call in ("lai_loss", "LaiLoss", "directional_losses")},
    **{(call, "norm"): (*NO_CHOICE, None) for call in ("lai_loss", "LaiLoss")},
    **{(call, "order"): (*NO_CHOICE, None) for call in ("lai_loss", "LaiLoss")},
    **{(call, "reduction"): (*NO_CHOICE, None) for call in ("lai_loss", "LaiLoss", "curvature_penalty")},
    **{(call, "normalize"): NO_FLAG for call in ("lai_loss", "LaiLoss")},
    **{(call, "l1_ratio"): (0.5, 2.0) for call in ("lai_loss", "LaiLoss")},
    ("lai_factor", "base"): (*NO_CHOICE, None),
    ("rescale_lam", "base"): (*NO_CHOICE, None),
    ("rescale_lam", "x_scale"): (0.0, -1.0, math.nan, math.inf, "a", None, ["a"]),
    ("rescale_lam", "y_scale"): (0.0, -1.0, math.nan, math.inf, "a", None),
    ("LaiSchedule", "alpha"): (-0.1, 1.1, math.nan, math.inf, "0.1", True, None),
    ("LaiSchedule", "pretrain_epochs"): NO_COUNT,
    ("LaiSchedule", "seed"): NO_COUNT,
    ("LaiSchedule", "sampling"): (*NO_CHOICE, None),
    ("LaiSchedule", "placement"): (*NO_CHOICE, None),
    ("LaiSchedule", "epochs"): (1, 0),
    ("MLP", "n_features"): NO_SIZE,
    ("MLP", "activation"): (*NO_CHOICE, None),
    ("MLP", "norm"): NO_CHOICE,
    ("MLP", "hidden"): ((0,), (-1,), (0.5,), ("a",), 5, None),
    ("MLP", "seed"): (-1, 0.5, "1", True),
    ("FixedStatistics", "statistics"): (*NO_CHOICE, None),
    ("sensitivity", "noise"): (-1.0, math.nan, math.inf),
    ("sensitivity", "relative_noise"): (-1.0, math.nan, math.inf),
    ("sensitivity", "seed"): NO_COUNT,
    ("value_and_input_gradient", "create_graph"): ("no", 1, 0),
    ("value_and_input_gradient", "allow_unused"): NO_FLAG,
    ("value_and_input_gradient", "scale"): (0, -1.0, math.nan, math.inf, "2", True),
    ("value_and_input_gradient", "wrt"): (1, "x", (0, 1)),
    ("value_and_input_gradient", "features"): ([3], [-1], [], [0.5], [True, False], ["x"]),
    ("WithSlopes", "allow_unused"): NO_FLAG,
    ("WithSlopes", "scale"): (0, -1.0, math.nan, "2"),
    ("WithSlopes", "wrt"): (1, "x"),
    ("WithSlopes", "features"): ([3], [-1], [], [0.5]),
    ("curvature_penalty", "method"): (*NO_CHOICE, None),
    ("curvature_penalty", "n_probes"): NO_SIZE,
    ("Sweep", "lr"): NO_RATE,
    ("Sweep", "compile"): ("no", "yes", None, 2, 1, 0),
    ("Sweep", "device"): ("moon", 1.5),
    ("Sweep", "models"): (3, [], ["a network"], None),
    ("Sweep.fit", "lams"): (0.1, None, [0.1], [0.1, 0.0]),
    ("Sweep.fit", "epochs"): NO_COUNT,
    ("Sweep.fit", "batch_size"): NO_SIZE,
    ("Sweep.fit", "seed"): NO_COUNT,
    ("Sweep.fit", "first_epoch"): NO_COUNT,
    ("Sweep.fit", "validate_every"): NO_SIZE,
    ("Sweep.fit", "slope"): (*NO_CHOICE, None),
    ("Sweep.fit", "each_epoch"): (3, "stop", [1]),
    ("fit", "epochs"): NO_COUNT,
    ("fit", "batch_size"): NO_SIZE,
    ("fit", "lr"): (*NO_RATE, None),
    ("fit", "seed"): NO_COUNT,
    ("fit", "first_epoch"): NO_COUNT,
    ("fit", "device"): ("moon", 1.5),
    ("fit", "criterion"): ("mse", 0.1, lai.LaiLoss, torch.nn.MSELoss(), torch.nn.SmoothL1Loss()),
    ("fit", "progress"): NO_FLAG,
    ("fit", "drop_last"): NO_FLAG,
    ("fit", "allow_coupling"): NO_FLAG,
    ("choose_lam", "max_error"): (-1, -2.0, math.nan, math.inf, True),
    ("choose_lam", "max_slope"): NO_RATE,
    ("choose_lam", "features"): ([], [3], [-1], [0.5]),
    ("choose_lam", "lams"): ([], [0.0], [-1.0], [math.nan], [[0.1, 0.2, 0.3]], 0.1),
    ("choose_lam", "epochs"): NO_COUNT,
    ("choose_lam", "lr"): NO_RATE,
    ("rmse", "x"): (3.0, "x", None),
    ("sensitivity", "x"): (3.0, None),
    ("MLP", "standardize"): (3.0, [[1.0, 2.0, 3.0]]),
    ("LaiRegressor", "lam"): (0.0, -1.0, math.nan, "best", [1.0], {0: 1.0}),
    ("LaiRegressor", "lam_units"): (*NO_CHOICE, None),
    ("LaiRegressor", "epochs"): NO_SIZE,
    ("LaiRegressor", "batch_size"): NO_SIZE,
    ("LaiRegressor", "lr"): NO_RATE,
    ("LaiRegressor", "alpha"): (-0.1, 1.1, math.nan, "0.1"),
    ("LaiRegressor", "n_iter_no_change"): NO_SIZE,
    ("LaiRegressor", "early_stopping"): NO_FLAG,
    ("LaiRegressor", "verbose"): NO_FLAG,
    ("LaiRegressor", "tol"): ("a", math.nan, math.inf, None, True),
    ("LaiRegressor", "validation_fraction"): (0, 1, -0.1, 1.5, math.nan, "a", None),
    ("LaiRegressor", "loss"): ("mse", {"bass": 1}, {"lam": 0.1}, {"reduction": "sum"}, 1),
    ("LaiRegressor", "budget"): ({"epochs": 1}, {"seed": 0}, 0.01),
    ("LaiRegressor", "hidden"): (5, (0,), None),
    ("LaiLoss, set later", "normalize"): NO_FLAG,
    ("LaiLoss, set later", "norm"): ("max", None),
    ("LaiLoss, set later", "reduction"): ("median", None),
    ("lai_loss", "weight"): NO_WEIGHT,
    ("lai_loss", "mask"): (torch.ones(8, 3), [True] * 3, torch.ones(2, dtype=torch.bool), "no"),
    **{(call, "epoch"): NO_COUNT for call in ("LaiSchedule.batches", "LaiSchedule.points")},
    ("LaiSchedule.batches", "n_batches"): NO_COUNT,
    **{(call, "x"): (X[:0],) for call in ("rmse", "output_variance", "sensitivity")},
    ("set_exact_statistics", "x"): (X[:0], *NO_TENSOR),
    ("Standardize", "mean"): NO_TENSOR,
    ("Standardize", "std"): NO_TENSOR,
    **{(call, "model"): NO_MODULE for call in ("WithSlopes", "FixedStatistics", "fit")},
    ("fit", "optimizer"): ("adam", torch.optim.Adam, 0.1),
    ("fit", "schedule"): (0.1, "spread", lai.LaiSchedule),
    ("fit", "each_epoch"): (3, "stop", [1]),
    ("fit", "weight"): NO_WEIGHT,
    ("Sweep.fit", "schedule"): (0.1, "spread"),
}  # fmt: skip

TABLE = [(call, name, value) for (call, name), values in BAD.items() for value in values]


def shown(value: Any) -> tuple[str, ...]:
    """How an error may print the value: after its name and "=", or the one entry of a list that is wrong, or its length."""
    if isinstance(value, torch.Tensor):
        return (f"shape {tuple(value.shape)}", f"of {value.dtype}")
    if isinstance(value, dict):
        return (repr(value), *(f"= {key!r}" for key in value))
    if not isinstance(value, list | tuple):
        return (f"= {value!r}", f"= {value}", f"has dtype {type(value).__name__}")
    return (repr(value), *(str(part) for part in value), f"{len(value)} entries", *(["empty"] if not value else []))


@pytest.mark.parametrize(("call", "name", "value"), TABLE, ids=lambda v: repr(v) if not isinstance(v, str) else v)
def test_refused_with_parameter_and_value(call: str, name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        CALLS[call](**{name: value})
    text = str(caught.value)
    assert name.rstrip("s") in text and "\n" not in text, text
    assert any(part in text for part in shown(value)), text


def test_a_model_that_returns_slopes_too_is_measured_as_it_is_and_not_swept() -> None:
    both = lai.WithSlopes(model())
    assert lai.rmse(both, X, Y) == lai.rmse(both.model, X, Y)
    with pytest.raises(TypeError, match=r"models\[0\] is a lai.WithSlopes"):
        lai.Sweep([both], lr=0.01)


@pytest.mark.parametrize("loss", [lai.LaiLoss(1e-8), lambda *to: lai.lai_loss(*to, lam=1e-8)])
def test_lam_beyond_the_precision_of_the_slopes(loss: Callable[..., torch.Tensor]) -> None:
    """The loss is computed in float32, but its gradient returns to slopes of float16, where it would be infinite."""
    with pytest.raises(ValueError, match=r"lam = 1e-08: must be between .* as torch.float16 holds no more"):
        loss(Y.half(), Y.half(), K.half())
    loss(Y.half(), Y.half(), K.float())  # as autocast leaves slopes


def test_the_calls_work_without_a_bad_input() -> None:
    """So that what is refused above is refused for the value."""
    for name, call in CALLS.items():
        call(**({"lam": 0.1} if name in ("check_lam", "rescale_lam") else {}))
