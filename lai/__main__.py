"""What this installation has, a line for each thing, OK or FAIL with the remedy, to paste into a report: `python -m lai`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy
import torch

import lai

EXTRAS = {"sklearn": ("sklearn", "tqdm"), "plot": ("matplotlib",)}
"""What each optional part of the library imports."""


def main() -> int:
    looks: dict[str, Callable[[], str]] = {
        "Python": lambda: f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "lai": lambda: lai.__version__,
        "torch": lambda: torch.__version__,
        "numpy": lambda: numpy.__version__,
        "devices": _devices,
        "slopes": _slopes,
        "compiler": _compiler,
        **{f"lai[{name}]": partial(_versions, modules) for name, modules in EXTRAS.items()},
    }
    failed = False
    for name, look in looks.items():
        try:
            word, found = "OK  ", look()
        except Exception as error:  # whatever a broken installation raises is the report
            word, found = "FAIL", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            failed |= not name.startswith(("lai[", "compiler"))
        print(f"{word}  {name:<12} {found}")
    return int(failed)


def _devices() -> str:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])])


def _slopes() -> str:
    """A step of the loss, so that what is wrong with torch shows here."""
    model = lai.MLP(2, (4,), seed=0)
    y_hat, k = lai.value_and_input_gradient(model, torch.ones(3, 2))
    lai.LaiLoss(0.1)(y_hat, torch.zeros(3), k).backward()
    if not all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters()):
        raise RuntimeError("a parameter has no finite gradient")
    return "a Lai step runs"


def _compiler() -> str:
    torch.compile(lambda x: torch.sin(x) + 1, fullgraph=True)(torch.ones(3))
    return "torch.compile works"


def _versions(modules: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {import_module(name).__version__}" for name in modules)


if __name__ == "__main__":
    sys.exit(main())
