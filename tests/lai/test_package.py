"""The wheel: what is in it, and that a user of it needs torch and numpy only."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lai

ROOT = Path(__file__).parents[2]

TRAINS = """
import json, sys
from importlib.machinery import PathFinder

refused = set(json.loads(sys.argv[2]))


class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Others
sys.path[:0] = [sys.argv[1]]
sys.path += json.loads(sys.argv[3])

import torch, lai

assert lai.__file__.startswith(sys.argv[1]), lai.__file__
for extra in ("pandas", "scipy", "tqdm"):
    try:
        __import__(extra)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{extra} was to be refused")

x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
y = x.sum(1)
settings = dict(epochs=2, batch_size=32, seed=0)
for norm in (None, "batch"):
    model = lai.MLP(2, (4,), norm=norm, standardize=x, seed=0)
    wrapped = lai.FixedStatistics(model) if norm else model
    history = lai.fit(wrapped, (x, y), criterion=lai.LaiLoss(0.1), val=(x, y), lr=0.01, device="cpu", **settings)
    assert len(history["val_rmse"]) == 2
    sweep = lai.Sweep([model] * 2, lr=0.01, device="cpu")
    assert len(sweep.fit((x, y), lams=[None, 0.1], val=(x, y), **settings)["loss"]) == 4
    lai.sensitivity(sweep.models()[0], x), lai.output_variance(model, x)
try:
    lai.fit(model, (x, y), lr=0.01, progress=True, device="cpu", **settings)
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without the network, from a copy, since a build writes beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT.md", "CITATION.cff", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    for folder in ("lai", "evidence", "tools"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    (built,) = out.iterdir()
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--no-index", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def not_needed(*roots: str) -> set[str]:
    """Names under which everything is imported that is installed here and that these distributions do not require."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        waiting += [re.split(r"[\[<>=!~; (]", line)[0] for line in requires if "extra ==" not in line]
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & found
    }


def test_the_wheel_holds_lai_alone(wheel: Path) -> None:
    about = f"lai-{lai.__version__}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{about}METADATA").decode()
    modules = {f"lai/{path.name}" for path in (ROOT / "lai").glob("*.py")}
    assert {name for name in names if not name.startswith(about)} == modules | {"lai/py.typed"}
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(required) == ["numpy", "torch"]
    assert f"{about}licenses/LICENSE" in names


@pytest.mark.long
def test_what_is_installed_trains_with_torch_and_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    refused = not_needed("torch", "numpy") - {"lai"}  # an installation for development has it too
    assert refused >= {"pandas", "scipy", "matplotlib", "joblib", "tqdm", "sklearn"}
    where = sorted({str(Path(importlib.metadata.distribution(name).locate_file(""))) for name in ("torch", "numpy")})
    command = [sys.executable, "-I", "-S", "-c", TRAINS, str(target), json.dumps(sorted(refused)), json.dumps(where)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "progress = True: the bar needs tqdm; install it, or leave progress off\n"
