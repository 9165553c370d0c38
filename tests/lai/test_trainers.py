"""The recipes for Lightning and Accelerate train as the plain loop does; skipped where these are not installed."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lai

PAGE = Path(__file__).parents[2] / "book" / "in_your_loop.md"
_, SECTION = PAGE.read_text(encoding="utf-8").split("## Lightning and Accelerate\n")
LIGHTNING, ACCELERATE = re.findall(r"```py\n(.*?)```", SECTION.split("\n## ")[0], re.DOTALL)
"""The section's two blocks, which the test of the page's other blocks leaves out."""


@pytest.fixture
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator)
    return TensorDataset(x, x.sin().sum(1) + 0.1 * torch.randn(64, generator=generator))


def plain(
    model: torch.nn.Module,
    data: TensorDataset,
    *,
    dtype: torch.dtype = torch.float32,
    clip: float = math.inf,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """One epoch of the page's plain loop, in the order of the rows."""
    model, criterion = copy.deepcopy(model).to(dtype), lai.LaiLoss(lam=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in DataLoader(data, batch_size=16, **options):
        y_hat, k = lai.value_and_input_gradient(model, x.to(dtype))
        criterion(y_hat, y.to(dtype), k).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def test_the_workers_of_a_loader_change_nothing(data: TensorDataset) -> None:
    model = lai.MLP(3, seed=1)
    torch.testing.assert_close(plain(model, data, num_workers=2), plain(model, data), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("trainer", "loop"),
    [
        ({}, {}),
        ({"precision": "64-true"}, {"dtype": torch.float64}),
        ({"gradient_clip_val": 0.05}, {"clip": 0.05}),
        ({"precision": "bf16-mixed"}, None),  # which rounds: near, and no more
    ],
    ids=str,
)
def test_lightning_trains_and_evaluates_as_the_page_says(
    data: TensorDataset, tmp_path: Path, trainer: dict[str, Any], loop: dict[str, Any] | None
) -> None:
    lightning = pytest.importorskip("lightning")
    names = {"lightning": lightning, "lai": lai, "torch": torch}
    exec(compile(LIGHTNING, str(PAGE), "exec"), names)
    model = lai.MLP(3, seed=1)
    start = copy.deepcopy(model.state_dict())
    expected = plain(model, data, **(loop or {}))

    seen = []

    class Validated(names["Regressor"]):
        def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
            x, y = batch
            y_hat, k = self.sloped(x)
            seen.append(self.criterion(y_hat, y, k))

    # a plain script's own settings: no files, one CPU process
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    alone = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "default_root_dir": tmp_path}
    loaders = DataLoader(data, batch_size=16), DataLoader(data, batch_size=64)
    lightning.Trainer(**alone, **quiet, **trainer).fit(Validated(model), *loaders)
    if loop is not None:
        torch.testing.assert_close(model.state_dict(), expected, rtol=1e-5, atol=1e-6)
    moved, wanted = (
        torch.cat([(end[n] - start[n]).flatten() for n in start]) for end in (model.state_dict(), expected)
    )
    assert float((moved - wanted).norm()) < 0.2 * float(wanted.norm())
    assert seen and all(torch.isfinite(loss) for loss in seen)


def test_accelerate_trains_as_the_page_says(data: TensorDataset) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = lai.MLP(3, seed=1)
    expected = plain(model, data)
    names = {
        "lai": lai,
        "accelerator": accelerate.Accelerator(cpu=True),
        "model": model,
        "criterion": lai.LaiLoss(lam=0.1),
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "loader": DataLoader(data, batch_size=16),
    }
    exec(compile(ACCELERATE, str(PAGE), "exec"), names)
    torch.testing.assert_close(model.state_dict(), expected)
