"""The step that is traced and compiled: as the program as it is, which test_sweep.py holds against lai.fit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checks
import pytest
from side_by_side import POINTS, SETTINGS, alone, each_equals_fit, networks, sweep_of, wave

import lai


@pytest.mark.parametrize(
    ("norm", "options"), [("layer", {"schedule": POINTS}), ("batch", {"slope": "own"})], ids=["points", "batchnorm"]
)
def test_traced_equals_fit(norm: Any, options: dict[str, Any]) -> None:
    each_equals_fit(networks(norm, n=2), [None, 0.1], wave(32), epochs=1, **options)


@pytest.mark.slow
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


@pytest.mark.slow
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
