"""The same numbers on a GPU; skipped, with the reason, where there is none."""

import pandas as pd
import pytest
import torch
from few_rows import few_rows

import lai
from evidence.runs.arms import Arm, train_arms

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch sees only the CPU")


def test_the_tables_runs_agree() -> None:
    """A small grid in stacks; what an experiment measures after two epochs, when rounding has not gone far."""
    plan: dict[str, list[Arm]] = {"published": [Arm(0.1)], "corrected": [Arm(0.1)], "sound": [Arm(0.1), Arm(0.01, 0.5)]}
    tables = [
        train_arms(few_rows(), plan, seeds=[0, 1], pretrain_epochs=1, epochs=1, device=device).table
        for device in ("cpu", "cuda")
    ]
    pd.testing.assert_frame_equal(*tables, rtol=1e-2, atol=1e-3)


def data(n: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=g)
    return x, torch.sin(x).sum(1) + 0.1 * torch.randn(n, generator=g)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_factor_agrees(base: str, dtype: torch.dtype) -> None:
    k = torch.logspace(-4, 4, 500).to(dtype)
    for lam in (0.01, torch.logspace(-2, 2, 500)):
        cpu = lai.lai_factor(k, lam, base=base)
        gpu = lai.lai_factor(k.cuda(), lam, base=base)
        assert gpu.is_cuda
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("order", ["sample", "batch"])
def test_loss_and_gradient_agree(order: str) -> None:
    x, y = data()
    values = []
    for device in ("cpu", "cuda"):
        model = lai.MLP(4, seed=0).to(device)
        output, k = lai.value_and_input_gradient(model, x.to(device), create_graph=True)
        loss = lai.LaiLoss([0.1, 1, 2, 0.5], order=order).to(device)(output, y.to(device), k)  # type: ignore
        loss.backward()
        weight = model[0].weight
        assert isinstance(weight, torch.nn.Parameter) and weight.grad is not None
        values.append((loss.detach().cpu(), weight.grad.cpu()))
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-6)


def test_fit_agrees_within_the_tables_tolerance() -> None:
    x, y = data()
    scores = []
    for device in ("cpu", "cuda"):
        model = lai.MLP(4, seed=0)
        schedule = lai.LaiSchedule(0.25, pretrain_epochs=5)
        history = lai.fit(
            model,
            (x, y),
            criterion=lai.LaiLoss(0.1),
            schedule=schedule,
            epochs=20,
            batch_size=128,
            lr=1e-3,
            seed=0,
            device=device,
        )
        assert next(model.parameters()).device.type == device
        where = next(model.parameters()).device
        scores.append((history["loss"].iloc[-1], lai.rmse(model, x.to(where), y.to(where))))
        lai.sensitivity(model, x.to(where))
        lai.assert_independent_samples(model, x.to(where))
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_auto_is_the_gpu() -> None:
    model = lai.MLP(4, seed=0)
    lai.fit(model, data(100), epochs=1, batch_size=50, lr=1e-3, seed=0)
    assert next(model.parameters()).is_cuda


def test_seeding_leaves_the_gpus_random_state_alone() -> None:
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    lai.MLP(4, seed=0)
    for device in ("cpu", "cuda"):
        lai.fit(lai.MLP(4, seed=0), data(100), epochs=1, batch_size=50, lr=1e-3, seed=0, device=device)
    assert torch.equal(torch.cuda.get_rng_state(), before)
