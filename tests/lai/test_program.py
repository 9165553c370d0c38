"""The step that is traced and compiled: as the program as it is, which test_sweep.py holds against lai.fit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checks
import pytest
import torch
import torch.fx.experimental.proxy_tensor as proxy_tensor
from side_by_side import POINTS, SETTINGS, alone, each_equals_fit, networks, sweep_of, wave
from torch import Tensor, nn

import lai
from lai import sweep as sweeps
from lai.program import Part


@pytest.fixture(autouse=True)
def every_step_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "WORTH_TRACING", 1)


@pytest.mark.parametrize(
    ("norm", "options"), [(None, {"schedule": POINTS}), ("batch", {"slope": "own"})], ids=["points", "batchnorm"]
)
def test_traced_equals_fit(norm: Any, options: dict[str, Any]) -> None:
    each_equals_fit(networks(norm, n=2, hidden=(3,)), [None, 0.1], wave(16), epochs=1, **options)


@pytest.mark.parametrize("planned", [True, False])
def test_a_step_is_traced_when_there_are_enough_of_it_and_computes_the_same(
    planned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough are planned, or were taken; few run as they are."""
    seen: list[Any] = []
    real = proxy_tensor.make_fx
    monkeypatch.setattr("lai.program._TRACED", {})
    monkeypatch.setattr(proxy_tensor, "make_fx", lambda program: seen.append(0) or real(program))
    models, (x, y) = networks("layer", n=2, hidden=(3,)), wave(16)

    def trained(worth: int) -> dict[str, Tensor]:
        monkeypatch.setattr(sweeps, "WORTH_TRACING", worth)
        arms = sweep_of(models)
        if planned:
            arms.fit((x, y), lams=[0.5, 0.1], epochs=3, batch_size=8, seed=0)
        else:
            part = Part(squares, (x, y), (False, False))
            for _ in range(6):
                arms.step(part)
        return arms.models()[1].state_dict()

    few = trained(7)
    assert seen == []
    many = trained(6)
    assert seen == [0]
    trained(7)  # what was traced before serves fewer steps as well
    assert seen == [0]
    for name, value in few.items():
        assert torch.equal(value, many[name]), name


def squares(network: Any, x: Tensor, y: Tensor) -> Tensor:
    return (network(x) - y).square().mean()


class Switched(nn.Module):
    """Asks a buffer for its value, which a trace would fix."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1).double()
        self.register_buffer("by", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return (self.by.item() if self.by.item() > 1 else 1.0) * self.line(x)[:, 0]


@pytest.mark.parametrize("compile", [True, False])
def test_what_cannot_be_traced_runs_as_it_is(compile: bool) -> None:
    torch.manual_seed(0)
    models, data = [Switched(), Switched()], wave(32)
    arms = sweep_of(models, compile=compile)
    arms.fit(data, lams=[0.5, None], **SETTINGS)
    assert arms.how == f"eager: {'it cannot be traced' if compile else 'compile is False'}"
    for trained, model, lam in zip(arms.models(), models, [0.5, None], strict=True):
        checks.same(trained, alone(model, data, lam)[0], rtol=1e-9, atol=1e-9)


class Scaled(nn.Module):
    """Does not print what it multiplies by, as torch's layers and ours do or their settings tell."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by, self.line = by, nn.Linear(2, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.by * self.line(x)[:, 0]


def test_networks_of_a_kind_that_is_not_known_share_nothing() -> None:
    for by in (1.0, 2.0):
        each_equals_fit([Scaled(by)], [None], wave(16), epochs=1)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to the compiler, which hands it back."""
    seen: list[Any] = []
    monkeypatch.setattr("lai.program._COMPILED", {})
    monkeypatch.setattr(torch, "compile", lambda program, **options: seen.append(program) or program)
    return seen


def test_a_program_is_compiled_once_for_each_kind_and_shape(compilations: list[Any]) -> None:
    def sweep(models: list[nn.Module], **change: Any) -> None:
        trained = sweep_of(models, compile=True)
        trained.fit(wave(32), **{"lams": [0.5, 0.1], **SETTINGS, **change})
        assert trained.how == "compiled"

    small, wide = ([lai.MLP(2, n, seed=i).double() for i in (0, 1)] for n in ((), (3,)))
    sweep(small)
    sweep(small[::-1], lams=[2.0, 3.0])
    assert len(compilations) == 1
    sweep(wide)
    sweep(small, batch_size=8)
    assert len(compilations) == 3


def test_programs_that_differ_in_a_constant_are_not_taken_for_one(compilations: list[Any]) -> None:
    x, y = wave(16)
    found = []
    for by in (2.0, 3.0):
        scale = torch.tensor(
            by, dtype=torch.float64
        )  # of the objective's own: the traced code says no more than its name
        loss = lambda network, x, y, scale=scale: scale * (network(x) - y).square().mean()  # noqa: E731
        found.append(sweep_of([lai.MLP(2, (), seed=0).double()], compile=True).step(Part(loss, (x, y), (False, False))))
    torch.testing.assert_close(found[1], found[0] * 1.5)


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise OSError("no compiler\nand much more about it")

    monkeypatch.setattr("lai.program._COMPILED", {})
    monkeypatch.setattr(torch, "compile", lambda program, **options: broken)
    models = [lai.MLP(2, (), seed=0).double()]
    sweep = sweep_of(models, compile=True)
    with pytest.warns(UserWarning, match=r"^eager: torch.compile failed \(OSError\); .* without it: no compiler$"):
        sweep.fit(wave(32), lams=[0.1], **SETTINGS)
    assert sweep.how == "eager: torch.compile failed (OSError)"
    checks.same(sweep.models()[0], alone(models[0], wave(32), 0.1)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.long
def test_compiled_equals_fit() -> None:
    models, data = [lai.MLP(2, (3,), seed=i).double() for i in (0, 1)], wave(32)
    sweep = sweep_of(models, compile=True)
    sweep.fit(data, lams=[0.5, 0.1], **SETTINGS)
    assert sweep.how == "compiled"
    for trained, model, lam in zip(sweep.models(), models, [0.5, 0.1], strict=True):
        checks.same(trained, alone(model, data, lam)[0], rtol=1e-9, atol=1e-9)


NO_COMPILER = """
import warnings
import torch, lai

x = torch.rand(16, 1)
sweep = lai.Sweep([lai.MLP(1, (3,), seed=0)], lr=0.01, device="cpu", compile=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    sweep.fit((x, x[:, 0]), lams=[0.1], epochs=2, batch_size=16, seed=0)
print(sweep.how)
print([str(w.message) for w in caught if "goes on without it" in str(w.message)])
model = lai.MLP(1, (3,), seed=0)
lai.fit(model, (x, x[:, 0]), criterion=lai.LaiLoss(0.1), epochs=2, batch_size=16, seed=0, lr=0.01, device="cpu")
torch.testing.assert_close(sweep.models()[0].state_dict(), model.state_dict())
"""


@pytest.mark.long
def test_without_a_compiler_it_warns_and_goes_on(tmp_path: Path) -> None:
    nowhere = {
        "CXX": str(tmp_path / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }  # a full cache needs no compiler
    root = Path(lai.__file__).parents[1]
    command = [sys.executable, "-c", NO_COMPILER]
    done = subprocess.run(command, cwd=root, env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    how, warned = done.stdout.splitlines()
    assert how.startswith("eager: torch.compile failed") and warned.count("goes on without it") == 1


def test_what_changes_an_error_or_a_layer_from_outside_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that looks at a number, and a hook: a program of an earlier sweep would know neither."""
    monkeypatch.setattr(sweeps, "WORTH_TRACING", 2)
    data, by = wave(16), 1.0
    base = lambda input, target: by * (input - target).square()  # noqa: E731
    losses = []
    for by in (1.0, 2.0):  # noqa: B007
        losses.append(
            sweep_of(networks(n=1)).fit(data, lams=[0.1], epochs=2, batch_size=16, seed=0, base=base)["loss"][0]
        )
    settings = {"epochs": 2, "batch_size": 16, "seed": 0}
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-12)
    sweep_of(networks(n=1)).fit(data, lams=[0.1], **settings)
    for factor in (3, 5):
        hooked = networks(n=1)
        hooked[0][1].register_forward_hook(lambda *call, factor=factor: factor * call[2])  # type: ignore[index]
        each_equals_fit(hooked, [0.1], data, **settings)
