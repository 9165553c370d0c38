"""The running example: a sensor's readings (``evidence/data/sensor.py``) and the housing data of the experiments (``evidence/data/housing.py``)."""

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
from .sensor import five_readings, sensor_readings

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
    "load_housing",
    "sensor_readings",
    "surrogate",
]
