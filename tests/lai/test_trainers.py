"""The recipes for Lightning and Accelerate train as the plain loop does; skipped where these are not installed."""

import copy
import re
from pathlib import Path

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


def plain(model: torch.nn.Module, data: TensorDataset) -> dict[str, torch.Tensor]:
    """One epoch of the page's plain loop, in the order of the rows."""
    model, criterion = copy.deepcopy(model), lai.LaiLoss(lam=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x, y in DataLoader(data, batch_size=16):
        y_hat, k = lai.value_and_input_gradient(model, x)
        criterion(y_hat, y, k).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def test_lightning_trains_and_evaluates_as_the_page_says(data: TensorDataset, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    names = {"lightning": lightning, "lai": lai, "torch": torch}
    exec(compile(LIGHTNING, str(PAGE), "exec"), names)
    model = lai.MLP(3, seed=1)
    expected = plain(model, data)

    seen = []

    class Validated(names["Regressor"]):
        def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
            x, y = batch
            y_hat, k = self.sloped(x)
            seen.append(self.criterion(y_hat, y, k))

    # a plain script's own settings: no files, one CPU process
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, default_root_dir=tmp_path, **quiet)
    trainer.fit(Validated(model), DataLoader(data, batch_size=16), DataLoader(data, batch_size=64))
    torch.testing.assert_close(model.state_dict(), expected)
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
