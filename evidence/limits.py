"""Which λ the chapters can compute with, whoever runs them: `make chapter`, papermill or a reader in a notebook."""

from typing import Any

LAM_ENDS = 1e-12, 1e12
"""The least and the largest: beyond, squares leave what float32 can hold."""


def check_lam(lam: Any, *, n_features: int | None = None, name: str = "lam") -> Any:
    """As :func:`lai.check_lam`, for the λ of a chapter; ``ValueError`` as well beyond ``LAM_ENDS``.

    >>> check_lam([0.1, 1e-300])
    Traceback (most recent call last):
        ...
    ValueError: lam[1] = 1e-300: λ must be from 1e-12 to 1e+12
    """
    import numpy as np

    import lai  # torch with it, which those who only want LAM_ENDS need not wait for

    checked = lai.check_lam(lam, n_features=n_features, name=name)
    low, high = LAM_ENDS
    for i, value in enumerate(np.atleast_1d(checked)):
        if not low <= value <= high:
            where = f"[{i}]" if np.ndim(checked) else ""
            raise ValueError(f"{name}{where} = {value:g}: λ must be from {low:g} to {high:g}")
    return checked
