"""The numbers that the paper prints, as printed: what every experiment is compared with.

Source: arXiv 2405.07884, version 1 (sections 4 and 5) and version 2 (section 6).
"""

from __future__ import annotations

from typing import Final

# Keys are λ; None is the plain MSE arm. Values: (validation RMSE, variance of the test outputs).
V1_SMOOTHNESS: Final = {
    None: (0.6879, 0.7435),
    1e-1: (0.6856, 0.7304),
    1e-2: (0.7015, 0.7066),
    1e-3: (0.7563, 0.4827),
    1e-4: (0.8959, 0.2209),
}
"""v1, section 4: α = 1, 500 epochs."""

V1_SAMPLING: Final = {(1.0, 1e-3): (0.7563, 0.4827), (0.01, 1e-4): (0.7820, 0.4653)}
"""v1, section 5: keys are (α, λ)."""

V2_SMOOTHNESS: Final = {
    None: (0.6960, 0.7728),
    1e-1: (0.6955, 0.7683),
    1e-2: (0.6997, 0.7574),
    1e-3: (0.7210, 0.6604),
}
"""v2, section 6.1: 100 epochs of MSE, then 100 with α = 0.01."""

V2_SENSITIVITY: Final = {
    "mse": (0.5749, 0.0992, 0.2109, 0.1665, 0.1084, 0.3845, 3.2284, 8.4200),
    "lam = 1e-1": (0.5739, 0.0987, 0.2120, 0.1636, 0.1103, 0.3824, 3.2053, 8.3946),
    "lam_8 = 1e-3": (0.5509, 0.1043, 0.1924, 0.1402, 0.1224, 0.3741, 2.1643, 4.8998),
}
"""v2, section 6.2: mean absolute output change under noise on X1 … X8."""

V2_LIST_RMSE: Final = 0.7127
"""v2, section 6.2: the validation RMSE of the arm whose λ is 0.001 for X8."""
