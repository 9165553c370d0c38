"""The housing data that the experiments train on; ``evidence/data/housing.py`` says where it comes from."""

from .housing import (
    FEATURES,
    KAGGLE_FOLDER,
    KAGGLE_SHA256,
    SOURCES,
    TARGET,
    UNITS,
    HeldOut,
    Housing,
    Split,
    load_housing,
    surrogate,
)

__all__ = [
    "FEATURES",
    "KAGGLE_FOLDER",
    "KAGGLE_SHA256",
    "SOURCES",
    "TARGET",
    "UNITS",
    "HeldOut",
    "Housing",
    "Split",
    "load_housing",
    "surrogate",
]
