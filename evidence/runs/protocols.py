"""How the paper's experiments are run: what it leaves open, filled in three ways."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lai.batchnorm import Slope
from lai.models import MLP


@dataclass(frozen=True)
class Protocol:
    """One way to fill in what the paper leaves open.

    Attributes
    ----------
    name, about : str
    activation, norm : str
        Of :class:`lai.MLP` (64 and 32 hidden units).
    standardize : bool
        Whether a first layer standardises the features. The slopes stay in raw units either way.
    lr : float
        Adam's step size.
    batch_size : int
        The last, short batch of an epoch is dropped.
    slope : "summed" or "own"
        What stands for k in the Lai loss, as in :meth:`lai.Sweep.fit`.

    Source: ours; the search behind "published" has a chapter.
    """

    name: str
    about: str
    activation: str
    norm: str | None
    standardize: bool
    lr: float
    batch_size: int = 512
    slope: Slope = "summed"

    @property
    def coupled(self) -> bool:
        """Whether the loss is given the summed gradient of a network that mixes samples, which is wrong."""
        return self.norm == "batch" and self.slope == "summed"

    def model(self, x: Tensor, seed: int) -> MLP:
        """A network for data like ``x`` (N, d), with initial weights from ``seed``."""
        return MLP(
            x.shape[1],
            activation=self.activation,
            norm=self.norm,  # type: ignore[arg-type]
            standardize=x if self.standardize else None,
            seed=seed,
        )


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            name="published",
            about="raw features, BatchNorm and ReLU, k through BatchNorm: near the paper's figures for MSE",
            activation="relu",
            norm="batch",
            standardize=False,
            lr=1e-4,
        ),
        Protocol(
            name="corrected",
            about="the published network and data, with each sample's own slope in the loss",
            activation="relu",
            norm="batch",
            standardize=False,
            lr=1e-4,
            slope="own",
        ),
        Protocol(
            name="sound",
            about="features standardised inside the model, SiLU, no coupling of samples: k is the true slope",
            activation="silu",
            norm=None,
            standardize=True,
            lr=1e-3,
        ),
    )
}
