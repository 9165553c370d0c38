"""The running example (``evidence/data/example.py``) and the housing data of the experiments (``evidence/data/housing.py``)."""

from .example import five_readings, house_map, sensor_readings
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
    "five_readings",
    "house_map",
    "load_housing",
    "sensor_readings",
    "surrogate",
]
