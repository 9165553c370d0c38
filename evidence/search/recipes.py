"""What is tried for what the paper does not state: recipes, and readings of its loss.

A recipe fills in network, scaling and optimiser, and is judged on the paper's MSE figures alone. A variant is a reading
of what the Lai part of training does. :mod:`evidence.search.run` trains them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lai import batchnorm
from lai.factor import check_choice, check_positive
from lai.models import ACTIVATIONS
from lai.schedule import LaiSchedule, check_count

SCALES = {
    "raw": "as Kaggle has them",
    "standard": "less the mean, over the standard deviation",
    "minmax": "to the interval from 0 to 1",
    "robust": "less the median, over the interquartile range",
}
"""Scalings of a column, fitted on the training rows."""

NORMS = {
    "none": "no normalisation",
    "batch": "BatchNorm before each activation",
    "after": "BatchNorm after each activation",
    "layer": "LayerNorm before each activation",
    "input": "BatchNorm on the inputs",
    "input+batch": "BatchNorm on the inputs and before each activation",
}

SCHEDULES = {
    "constant": "one learning rate",
    "cosine": "falling to 0 by a cosine",
    "tenth": "a tenth of it in the second stage",
}


@dataclass(frozen=True)
class Recipe:
    """One way to fill in what the paper leaves open about network and training.

    Attributes
    ----------
    name, family : str
    scale, scale_y : keys of ``SCALES``
        Of the features and of the target. Results are in the target's own units whatever ``scale_y``; λ and k are in
        the units that the network sees.
    norm : key of ``NORMS``
    activation : key of ``lai.models.ACTIVATIONS``
    hidden : tuple of int
    lr : float
        Adam's step size at the start.
    batch_size : int
    schedule : key of ``SCHEDULES``
    fresh_adam : bool
        Whether the second stage begins with an Adam without memory.
    drop_last : bool
        Whether the last, short batch of an epoch is left out.

    Raises
    ------
    ValueError
        For an option outside its list, or a size that is not positive.
    """

    name: str
    family: str
    scale: str = "raw"
    scale_y: str = "raw"
    norm: str = "none"
    activation: str = "relu"
    hidden: tuple[int, ...] = (64, 32)
    lr: float = 1e-3
    batch_size: int = 512
    schedule: str = "constant"
    fresh_adam: bool = False
    drop_last: bool = True

    def __post_init__(self) -> None:
        check_choice("scale", self.scale, tuple(SCALES))
        check_choice("scale_y", self.scale_y, tuple(SCALES))
        check_choice("norm", self.norm, tuple(NORMS))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("schedule", self.schedule, tuple(SCHEDULES))
        check_count("batch_size", self.batch_size, least=2)
        check_positive("lr", self.lr)
        for width in self.hidden:
            check_count("hidden", width, least=1)

    def lr_at(self, epoch: int, stages: tuple[int, int]) -> float:
        """Adam's step size in an epoch, where the two stages have ``stages`` epochs.

        >>> recipe = Recipe("a", "b", lr=0.1, schedule="tenth")
        >>> recipe.lr_at(9, (10, 5)), recipe.lr_at(10, (10, 5))
        (0.1, 0.01)
        """
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * epoch / max(1, sum(stages)))) / 2
        return self.lr / 10 if self.schedule == "tenth" and epoch >= stages[0] else self.lr


def _family(family: str, **common: Any) -> Any:
    return lambda name, **own: Recipe(name, family, **{**common, **own})


_raw_batch = _family("raw + BatchNorm", norm="batch", lr=1e-4)
_raw = _family("raw, no BatchNorm inside")
_standard = _family("standardised", scale="standard")
_minmax = _family("min-max", scale="minmax")
_robust = _family("robust", scale="robust")

RECIPES: tuple[Recipe, ...] = (
    _raw_batch("published"),
    _raw_batch("published, lr 3e-4", lr=3e-4),
    _raw_batch("published, lr 1e-3", lr=1e-3),
    _raw_batch("published, batch 128", batch_size=128),
    _raw_batch("published, batch 256", batch_size=256),
    _raw_batch("published, batch 1024", batch_size=1024),
    _raw_batch("published, short batch kept", drop_last=False),
    _raw_batch("published, 64", hidden=(64,)),
    _raw_batch("published, 32-16", hidden=(32, 16)),
    _raw_batch("published, 128-64", hidden=(128, 64)),
    _raw_batch("published, 64-64-32", hidden=(64, 64, 32)),
    _raw_batch("published, SiLU", activation="silu"),
    _raw_batch("published, tanh", activation="tanh"),
    _raw_batch("published, BatchNorm after ReLU", norm="after"),
    _raw_batch("published, BatchNorm on inputs too", norm="input+batch"),
    _raw_batch("published, y standardised", scale_y="standard"),
    _raw_batch("published, fresh Adam", fresh_adam=True),
    _raw_batch("published, cosine", schedule="cosine"),
    _raw_batch("published, lr/10 in stage 2", schedule="tenth"),
    _raw("raw"),
    _raw("raw, lr 1e-4", lr=1e-4),
    _raw("raw, 64, lr 1e-3", hidden=(64,)),
    _raw("raw, SiLU", activation="silu"),
    _raw("raw, LayerNorm", norm="layer"),
    _raw("raw, LayerNorm, lr 1e-4", norm="layer", lr=1e-4),
    _raw("raw, BatchNorm on inputs only", norm="input"),
    _raw("raw, BatchNorm on inputs only, lr 1e-4", norm="input", lr=1e-4),
    _standard("standardised"),
    _standard("standardised, lr 1e-4", lr=1e-4),
    _standard("standardised, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
    _standard("standardised, 8 hidden", hidden=(8,)),
    _standard("standardised, 8 hidden, lr 1e-4", hidden=(8,), lr=1e-4),
    _standard("standardised, batch 4096, lr 1e-4", batch_size=4096, lr=1e-4),
    _standard("standardised, full batch, lr 1e-2", batch_size=29_710, lr=1e-2),
    _standard("standardised, y standardised", scale_y="standard"),
    _minmax("min-max"),
    _minmax("min-max, lr 1e-4", lr=1e-4),
    _minmax("min-max, 64, lr 1e-4", hidden=(64,), lr=1e-4),
    _minmax("min-max, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
    _minmax("min-max, full batch, lr 1e-2", batch_size=29_710, lr=1e-2),
    _robust("robust"),
    _robust("robust, lr 1e-4", lr=1e-4),
    _robust("robust, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
)
"""What was tried for the paper's MSE figures, before any Lai figure was looked at."""

TUNING: tuple[Recipe, ...] = tuple(
    _standard(f"{activation}, step {lr:g}", activation=activation, lr=lr)
    for activation in ("silu", "relu", "tanh", "softplus")
    for lr in (3e-4, 1e-3, 3e-3)
)
"""What the sound protocol was chosen from, by error on the validation rows and whether the slope is smooth."""

SLOPES = {
    **batchnorm.SLOPES,
    "mean": "gradient of the mean output: the summed outputs' over the batch size",
    "loss": "gradient of the mean squared error",
    "squares": "gradient of the summed squared errors: B times that",
}
"""What stands for k in the Lai loss of a batch of B samples."""

SAMPLINGS = {
    "batches": "a share α of the batches",
    "points": "a share α of each batch, with a forward pass of its own",
    "marked": "a share α of each batch, in the batch's one forward pass",
    "subset": "the same share α of the rows in every epoch, as one batch of their own",
}
"""Which rows take the Lai loss."""


@dataclass(frozen=True)
class Variant:
    """One reading of the Lai part of training.

    Attributes
    ----------
    name : str
    slope : key of ``SLOPES``
    order, norm, normalize
        As in :func:`lai.lai_loss`.
    sampling : key of ``SAMPLINGS``
    alpha : float
    changes : tuple of (attribute, value)
        Of the :class:`Recipe` that this reading is tried with.
    """

    name: str
    slope: str = "summed"
    order: str = "sample"
    norm: str = "l2"
    normalize: bool = False
    sampling: str = "batches"
    alpha: float = 0.01
    changes: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_choice("slope", self.slope, tuple(SLOPES))
        check_choice("order", self.order, ("sample", "batch"))
        check_choice("norm", self.norm, ("l2", "l1"))
        check_choice("sampling", self.sampling, tuple(SAMPLINGS))
        if self.order == "batch" and self.sampling == "marked":
            raise ValueError("order = 'batch': it needs samples of its own, and sampling is 'marked'")
        LaiSchedule(self.alpha)


VARIANTS: tuple[Variant, ...] = (
    Variant("summed outputs"),
    Variant("mean output", slope="mean"),
    Variant("gradient of the loss", slope="loss"),
    Variant("gradient of summed squares", slope="squares"),
    Variant("own slope", slope="own"),
    Variant("own slope, running statistics", slope="running"),
    Variant("order batch", order="batch"),
    Variant("L2 over √d", normalize=True),
    Variant("L1", norm="l1"),
    Variant("L1 over d", norm="l1", normalize=True),
    Variant("two batches an epoch", alpha=2 / 58),
    Variant("points, own pass", sampling="points"),
    Variant("points, shared pass", sampling="marked"),
    Variant("fixed 1 %, its own batch", sampling="subset"),
    Variant("fresh Adam", changes=(("fresh_adam", True),)),
    Variant("lr/10 in stage 2", changes=(("schedule", "tenth"),)),
    Variant("cosine", changes=(("schedule", "cosine"),)),
    Variant("y standardised", changes=(("scale_y", "standard"),)),
)
"""The readings of the Lai part that were tried on the recipe that was chosen."""

Lam = float | tuple[float, ...]
PAPER_LAMS: tuple[Lam, ...] = (1e-1, 1e-2, 1e-3)
"""Version 2's λ (section 6.1)."""

PAPER_LIST = (1e-1,) * 7 + (1e-3,)
"""Version 2's λ list, which lowers the last feature's (section 6.2)."""
