"""The housing data: Kaggle's files, an embedded surrogate that needs no download, or the 1990 census table.

The paper's experiments (section 6.1) use the Kaggle competition *playground-series-s3e1*. Its files may
not be passed on, so the book also carries a surrogate: not rows but a generator, whose fitted parameters
lie in ``evidence/data/surrogate.npz`` and are made by ``evidence/data/fit_surrogate.py``.
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .generator import N_TRAIN, generate

__all__ = [
    "FEATURES",
    "KAGGLE_FOLDER",
    "KAGGLE_SHA256",
    "SOURCES",
    "TARGET",
    "UNITS",
    "Housing",
    "Split",
    "HeldOut",
    "load_housing",
    "surrogate",
]

FEATURES: tuple[str, ...] = (
    "MedInc",
    "HouseAge",
    "AveRooms",
    "AveBedrms",
    "Population",
    "AveOccup",
    "Latitude",
    "Longitude",
)
"""The eight inputs in the order of the paper's X1 to X8."""

TARGET = "MedHouseVal"

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "MedInc": "10,000 US$",
        "HouseAge": "years",
        "AveRooms": "rooms per household",
        "AveBedrms": "bedrooms per household",
        "Population": "people per block group",
        "AveOccup": "people per household",
        "Latitude": "degrees north",
        "Longitude": "degrees east",
        "MedHouseVal": "100,000 US$",
    }
)
"""The unit of every feature and of the target."""

SOURCES: tuple[str, ...] = ("auto", "kaggle", "surrogate", "california")

KAGGLE_FOLDER = Path("data") / "playground-series-s3e1"
"""Where Kaggle's files are looked for when ``LAI_DATA`` is not set: here, under the working folder or the repo."""

KAGGLE_SHA256 = "4ec3ed528c9b998672615db132575265cc7929f010656e452184b5bb016ba696"
"""``Housing.sha256`` of the files as Kaggle published them."""

N_TEST = 24_759
"""Rows of Kaggle's test.csv; the surrogate has as many."""

_VAL_FRACTION = 0.2
_SURROGATE_SEED = 0
_HOW_TO_GET = (
    "Download train.csv and test.csv from https://www.kaggle.com/competitions/playground-series-s3e1/data "
    f"into {KAGGLE_FOLDER.as_posix()}/ or into a folder that the environment variable LAI_DATA names; "
    'LAI_DATA=none or source="surrogate" works without them.'
)

_Array = NDArray[np.float64]


class Split(NamedTuple):
    """Rows with known target: ``x`` (N, 8) and ``y`` (N,), float32, in the units of `UNITS`."""

    x: Tensor
    y: Tensor


class HeldOut(NamedTuple):
    """Test rows: ``x`` (N, 8) and ``y`` (N,), or None where the source keeps the target back."""

    x: Tensor
    y: Tensor | None


@dataclass(frozen=True, eq=False)
class Housing:
    """A housing table, split for training. Made by `load_housing`.

    Attributes
    ----------
    train, val : Split
        ``x`` (N, 8) and ``y`` (N,), float32 on the CPU, raw (unscaled) values in the units of ``units``.
    test : HeldOut
        As above; ``test.y`` is None for Kaggle's files, which do not hold it.
    feature_names : tuple of str
        The columns of ``x``.
    target_name : str
        The name of ``y``.
    units : mapping
        The unit of every feature and of the target.
    source : str
        "kaggle", "surrogate" or "california": what was really loaded, never "auto".
    sha256 : str
        SHA-256 of the float32 values (training rows in the file's order, then test rows). It names the
        data and does not depend on ``split_seed``.
    provenance : str
        One line: source, row counts, SHA-256.
    """

    train: Split
    val: Split
    test: HeldOut
    feature_names: tuple[str, ...]
    target_name: str
    units: Mapping[str, str]
    source: str
    sha256: str
    provenance: str

    def __repr__(self) -> str:
        return f"Housing({self.provenance})"


@dataclass(frozen=True, eq=False)
class _Table:
    """Unsplit rows: the common form of the three sources."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.float32] | None

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for part in (self.x, self.y, self.x_test, self.y_test):
            if part is not None:
                digest.update(np.ascontiguousarray(part, dtype="<f4").tobytes())
        return digest.hexdigest()


def load_housing(source: str = "auto", *, split_seed: int = 0, max_occupancy: float | None = None) -> Housing:
    """Load the housing data of the paper's experiments, or a stand-in for it.

    Parameters
    ----------
    source : {"auto", "kaggle", "surrogate", "california"}
        - "kaggle": the paper's data, *playground-series-s3e1*, 37,137 training and 24,759 test rows, read from
          the folder that the environment variable ``LAI_DATA`` names, else from
          ``data/playground-series-s3e1/`` under the working folder or the repository.
        - "surrogate": as many rows from the embedded generator (`surrogate`); needs nothing.
        - "california": the 1990 census table through scikit-learn's ``fetch_california_housing``, cut
          60:40 into training and test rows as Kaggle's is; needs scikit-learn and, once, a download.
        - "auto": Kaggle's if they are there, else the surrogate. ``LAI_DATA=none`` means "not there".
          A folder that is named or found but is incomplete or broken is an error, never a silent fallback.
    split_seed : int
        Seed of the permutation whose first 20 % is the validation set. The test rows do not depend on it.
    max_occupancy : float, optional
        Rows with more people per household are left out of training and validation, after the split.

    Returns
    -------
    Housing
        ``train``, ``val`` and ``test`` with ``x`` (N, 8) and ``y`` (N,) as raw float32 tensors on the CPU, in the
        units of `UNITS`, and a line of provenance that says which source was taken.

    Raises
    ------
    FileNotFoundError
        A folder or a file of Kaggle's is missing.
    ValueError
        A file is not what Kaggle published (columns, row count, ids, a value that is missing, not finite or not
        a number), or ``source``, ``split_seed`` or ``max_occupancy`` is not one of the allowed values.
    TypeError
        ``source`` is not a string or ``split_seed`` not an integer.
    ImportError, OSError
        "california" without scikit-learn, or without its file and a network to fetch it from.

    Notes
    -----
    Section 6.1 of the paper names the data but not the split: the seeded 20 % is this book's choice. One row of
    Kaggle's has 503 people per household (the next has 41). Seeds 0 to 21 leave it in training; where it is in
    validation, it can dominate the RMSE of a model that extrapolates.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> data = load_housing("surrogate")
    >>> data.train.x.shape, data.val.x.shape, data.test.x.shape
    (torch.Size([29710, 8]), torch.Size([7427, 8]), torch.Size([24759, 8]))
    >>> data.feature_names[0], data.units["MedInc"], data.units["MedHouseVal"]
    ('MedInc', '10,000 US$', '100,000 US$')
    >>> data.source
    'surrogate'
    """
    if not isinstance(source, str):
        raise TypeError(f"source must be a string, one of {', '.join(SOURCES)}; got {source!r}")
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    seed = _check_seed("split_seed", split_seed)

    remark = ""
    if source in ("auto", "kaggle"):
        folder = _kaggle_folder()
        if folder is None and source == "kaggle":
            raise FileNotFoundError(_no_folder_message())
        if source == "auto":
            remark = " (chosen by auto)" if folder is not None else " (chosen by auto: no Kaggle files)"
        source = "surrogate" if folder is None else "kaggle"
    if source == "kaggle":
        assert folder is not None
        table = _read_kaggle(folder)
        sha256 = table.sha256()
        label = "Kaggle playground-series-s3e1"
        if sha256 != KAGGLE_SHA256:
            label += ", altered (the values are not those that Kaggle published)"
    elif source == "california":
        table = _read_california()
        sha256 = table.sha256()
        label = "California housing, 1990 census, by scikit-learn"
    else:
        table = _surrogate_table()
        sha256 = table.sha256()
        label = "surrogate of Kaggle playground-series-s3e1"

    order = torch.randperm(len(table.x), generator=torch.Generator().manual_seed(seed)).numpy()
    n_val = round(_VAL_FRACTION * len(order))
    val, train = order[:n_val], order[n_val:]
    if max_occupancy is not None:
        crowd = table.x[:, FEATURES.index("AveOccup")]
        val, train = (rows[crowd[rows] <= max_occupancy] for rows in (val, train))
        if not (len(val) and len(train)):
            raise ValueError(f"max_occupancy = {max_occupancy!r}: must leave rows for training and validation")
        remark += f" (rows with more than {max_occupancy:g} people per household left out)"
    provenance = f"{label}{remark}: {len(train)} training, {len(val)} validation, {len(table.x_test)} test rows; SHA-256 {sha256}"
    return Housing(
        train=Split(torch.from_numpy(table.x[train]), torch.from_numpy(table.y[train])),
        val=Split(torch.from_numpy(table.x[val]), torch.from_numpy(table.y[val])),
        test=HeldOut(
            torch.from_numpy(table.x_test.copy()),
            None if table.y_test is None else torch.from_numpy(table.y_test.copy()),
        ),
        feature_names=FEATURES,
        target_name=TARGET,
        units=dict(UNITS),  # a plain dict, so that the whole can be copied and pickled
        source=source,
        sha256=sha256,
        provenance=provenance,
    )


def _check_seed(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer >= 0; got {value!r}")
    seed = operator.index(value)
    if seed < 0:
        raise ValueError(f"{name} must be an integer >= 0; got {value!r}")
    return seed


# --- Kaggle ----------------------------------------------------------------------------------------------------


def _kaggle_folder() -> Path | None:
    """The folder of Kaggle's files, None where there is none or LAI_DATA=none; an error where LAI_DATA is wrong."""
    setting = os.environ.get("LAI_DATA", "").strip()
    if setting.lower() == "none":
        return None
    if setting:
        try:
            folder = Path(setting).expanduser()
        except RuntimeError:
            raise FileNotFoundError(
                f"LAI_DATA={setting}: no home folder is known for it; give the whole path"
            ) from None
        if not folder.is_dir():
            raise FileNotFoundError(
                f"LAI_DATA={setting}: expected a folder with train.csv and test.csv, found "
                f"{'a file' if folder.exists() else 'nothing there'}. {_HOW_TO_GET}"
            )
        return folder
    for base in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (base / KAGGLE_FOLDER).is_dir():
            return base / KAGGLE_FOLDER
    return None


def _no_folder_message() -> str:
    if os.environ.get("LAI_DATA", "").strip().lower() == "none":
        return f'source="kaggle", but LAI_DATA=none switches Kaggle\'s files off: unset it. {_HOW_TO_GET}'
    return (
        f'source="kaggle": expected the folder {KAGGLE_FOLDER.as_posix()}/ in the working folder or the repository, '
        f"found neither. {_HOW_TO_GET}"
    )


def _read_kaggle(folder: Path) -> _Table:
    for name in ("train.csv", "test.csv"):
        if not (folder / name).is_file():
            present = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
            raise FileNotFoundError(
                f"{folder / name}: expected this file, found in its folder: {present}. {_HOW_TO_GET}"
            )
    train = _read_csv(folder / "train.csv", ("id", *FEATURES, TARGET), N_TRAIN, first_id=0)
    test = _read_csv(folder / "test.csv", ("id", *FEATURES), N_TEST, first_id=N_TRAIN)
    return _Table(
        x=train[:, 1:9].astype(np.float32),
        y=train[:, 9].astype(np.float32),
        x_test=test[:, 1:].astype(np.float32),
        y_test=None,
    )


def _read_csv(path: Path, columns: tuple[str, ...], n_rows: int, first_id: int) -> _Array:
    """The values of a csv file, (n_rows, len(columns)), in the order of ``columns``; ValueError where it is not so."""

    def wrong(expected: str, found: str) -> ValueError:
        return ValueError(f"{path}: expected {expected}, found {found}. {_HOW_TO_GET}")

    try:
        header, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except UnicodeDecodeError:
        raise wrong("a csv file in UTF-8", "bytes that are not text (a zip file still to be unpacked?)") from None
    names = [name.strip().strip('"') for name in header.split(",")]
    if sorted(names) != sorted(columns):
        missing = [name for name in columns if name not in names]
        other = [name for name in names if name not in columns]
        swapped = TARGET in missing + other and set(missing + other) == {TARGET}
        raise wrong(
            f"the columns {', '.join(columns)}",
            f"{'an empty file' if not header else 'the columns ' + ', '.join(names)[:300]}"
            + (f"; missing: {', '.join(missing)}" if missing and header else "")
            + (f"; not expected: {', '.join(other)[:300]}" if other and header else "")
            + ("; are train.csv and test.csv swapped?" if swapped else ""),
        )
    while lines and not lines[-1].strip():
        lines.pop()
    values = np.empty((len(lines), len(names)))
    for number, line in enumerate(lines):
        fields = line.split(",")
        if len(fields) != len(names):
            cut = ", the last: is the file cut off?" if number == len(lines) - 1 else ""
            raise wrong(f"{len(names)} values in every line", f"{len(fields)} in line {number + 2}{cut}")
        try:
            values[number] = [float(field) for field in fields]
        except ValueError:
            column, text = next((n, f) for n, f in zip(names, fields, strict=True) if not _is_number(f))
            found = f"{text.strip()[:40]!r}" if text.strip() else "no value"
            raise wrong("a number in every field", f"{found} in line {number + 2}, column {column}") from None
    values = values[:, [names.index(name) for name in columns]]
    if len(values) != n_rows:
        raise wrong(f"{n_rows} rows", f"{len(values)}; is the file cut off, or another file under this name?")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, col = bad[0]
        raise wrong(
            "finite numbers",
            f"{values[row, col]} in line {row + 2}, column {columns[col]} ({len(bad)} such values in all)",
        )
    ids = first_id + np.arange(n_rows)
    off = np.flatnonzero(values[:, 0] != ids)
    if len(off):
        row = off[0]
        raise wrong(
            f"the ids {first_id} to {first_id + n_rows - 1} in order",
            f"id {values[row, 0]:g} in line {row + 2} instead of {ids[row]}",
        )
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- The 1990 census -------------------------------------------------------------------------------------------


def _read_california() -> _Table:
    try:
        from sklearn.datasets import fetch_california_housing
    except ImportError as error:
        raise ImportError(
            'source="california" needs scikit-learn (pip install scikit-learn); source="surrogate" needs nothing'
        ) from error
    try:
        bunch: Any = fetch_california_housing()
    except OSError as error:
        raise OSError(
            'source="california": scikit-learn could not fetch the table and has no copy of it '
            f'({type(error).__name__}: {error}). Try again with a network; source="surrogate" needs none.'
        ) from error
    if tuple(bunch.feature_names) != FEATURES:
        raise ValueError(
            f'source="california": expected the columns {", ".join(FEATURES)} from scikit-learn, '
            f"found {', '.join(bunch.feature_names)}"
        )
    x, y = np.asarray(bunch.data, dtype=np.float32), np.asarray(bunch.target, dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(x))  # the table is sorted by place
    n_train = round(len(x) * N_TRAIN / (N_TRAIN + N_TEST))
    train, test = order[:n_train], order[n_train:]
    return _Table(x=x[train], y=y[train], x_test=x[test], y_test=y[test])


# --- The surrogate ---------------------------------------------------------------------------------------------


def surrogate(n_rows: int, seed: int) -> Split:
    """Draw rows that are distributed like the Kaggle data without being any of its rows.

    A draw from a Gaussian mixture gives dependent scores; a quantile table per feature turns the ranks of the scores
    into values in the feature's own units; a small network predicts the house value, and a table of quantiles given
    that prediction adds the spread and the cap at 500,001 US$. Everything fitted is in ``evidence/data/surrogate.npz``.

    Rows are drawn in whole tables of 37,137, each with the marginals of Kaggle's table down to its one row with 503
    people per household, and cut to ``n_rows``: fewer rows are the head of more. Equal seeds give equal bytes.

    Parameters
    ----------
    n_rows : int
        Number of rows, at least 1.
    seed : int
        At least 0.

    Returns
    -------
    Split
        ``x`` (n_rows, 8) and ``y`` (n_rows,), float32, in the units of `UNITS`.

    Raises
    ------
    TypeError, ValueError
        ``n_rows`` or ``seed`` is not an integer, or out of range.

    Examples
    --------
    >>> from evidence.data import surrogate
    >>> x, y = surrogate(1000, seed=1)
    >>> x.shape, y.shape, x.dtype
    (torch.Size([1000, 8]), torch.Size([1000]), torch.float32)
    >>> bool((x == surrogate(1000, seed=1).x).all())
    True
    """
    seed = _check_seed("seed", seed)
    if isinstance(n_rows, bool) or not hasattr(n_rows, "__index__"):
        raise TypeError(f"n_rows must be an integer >= 1; got {n_rows!r}")
    if n_rows < 1:
        raise ValueError(f"n_rows must be an integer >= 1; got {n_rows!r}")
    x, y = generate(operator.index(n_rows), seed)
    return Split(torch.from_numpy(x), torch.from_numpy(y))


def _surrogate_table() -> _Table:
    x, y = generate(N_TRAIN + N_TEST, _SURROGATE_SEED)
    return _Table(x=x[:N_TRAIN], y=y[:N_TRAIN], x_test=x[N_TRAIN:], y_test=y[N_TRAIN:])
