"""The data: what is loaded from where, what is refused, and how close the surrogate comes to the real rows."""

import io
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from evidence.data import (
    FEATURES,
    KAGGLE_SHA256,
    TARGET,
    UNITS,
    Housing,
    five_readings,
    generator,
    housing,
    load_housing,
    sensor_readings,
    surrogate,
)

Array = NDArray[np.float64]
Files = dict[str, str]

SURROGATE_SHA256 = "b4604e4fd9a1ed27f6d26fdd789085119ff4f09e829b136a07d08302e1973e9c"
"""Of the rows that evidence/data/surrogate.npz gives on every machine; evidence/data/fit_surrogate.py prints it after a new fit."""


# --- What is loaded ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> Housing:
    return load_housing("surrogate")


def sorted_rows(*splits: housing.Split) -> torch.Tensor:
    """The rows of all splits with their target (N, 9), in an order that depends on nothing but the rows."""
    rows = torch.cat([torch.column_stack(split) for split in splits])
    return rows[np.lexsort(rows.numpy().T)]


def test_surrogate_has_the_shapes_types_and_names_of_kaggles(embedded: Housing) -> None:
    assert embedded.train.x.shape == (29_710, 8) and embedded.train.y.shape == (29_710,)
    assert embedded.val.x.shape == (7_427, 8) and embedded.val.y.shape == (7_427,)
    assert embedded.test.x.shape == (24_759, 8)
    assert embedded.test.y is not None and embedded.test.y.shape == (24_759,)
    for tensor in (*embedded.train, *embedded.val, embedded.test.x, embedded.test.y):
        assert tensor.dtype == torch.float32 and tensor.device.type == "cpu" and bool(tensor.isfinite().all())
    assert embedded.feature_names == FEATURES and embedded.target_name == TARGET
    assert set(embedded.units) == {*FEATURES, TARGET} and embedded.units == dict(UNITS)


def test_provenance_is_one_line_with_source_counts_and_hash(embedded: Housing) -> None:
    line = embedded.provenance
    assert "\n" not in line and embedded.source == "surrogate"
    for part in ("surrogate", "29710 training", "7427 validation", "24759 test", embedded.sha256):
        assert part in line
    assert line in repr(embedded)


def test_surrogate_gives_the_same_bytes_on_every_machine(embedded: Housing) -> None:
    assert embedded.sha256 == SURROGATE_SHA256


def test_hash_changes_with_any_value() -> None:
    rows = surrogate(100, seed=0)
    x, y = rows.x.numpy(), rows.y.numpy()
    hashes = set()
    for part in range(4):
        parts = [x.copy(), y.copy(), x.copy(), y.copy()]
        parts[part].flat[-1] += 0.01
        hashes.add(housing._Table(*parts).sha256())
    hashes.add(housing._Table(x, y, x, y).sha256())
    assert len(hashes) == 5


def test_split_is_a_seeded_fifth_and_leaves_the_test_rows_alone(embedded: Housing) -> None:
    again, other = load_housing("surrogate", split_seed=0), load_housing("surrogate", split_seed=1)
    assert torch.equal(again.val.x, embedded.val.x) and torch.equal(again.train.y, embedded.train.y)
    assert not torch.equal(other.val.x, embedded.val.x)
    assert torch.equal(other.test.x, embedded.test.x) and other.sha256 == embedded.sha256
    first, second = sorted_rows(again.train, again.val), sorted_rows(other.train, other.val)
    assert torch.equal(first, second)  # the same rows with their targets: none lost, doubled or shared


def test_split_does_not_share_memory_between_calls() -> None:
    load_housing("surrogate").train.x.zero_()
    assert load_housing("surrogate").train.x.abs().sum() > 0


@pytest.mark.parametrize("n_rows", [1, 1000, 37_137, 40_000])
def test_surrogate_is_deterministic_for_a_seed(n_rows: int) -> None:
    first, second, other = surrogate(n_rows, seed=3), surrogate(n_rows, seed=3), surrogate(n_rows, seed=4)
    assert first.x.shape == (n_rows, 8) and first.y.shape == (n_rows,)
    assert first.x.numpy().tobytes() == second.x.numpy().tobytes()
    assert first.y.numpy().tobytes() == second.y.numpy().tobytes()
    assert not torch.equal(first.x, other.x) and not torch.equal(first.y, other.y)


def test_fewer_surrogate_rows_are_the_head_of_more() -> None:
    few, many = surrogate(500, seed=5), surrogate(38_000, seed=5)
    assert torch.equal(few.x, many.x[:500]) and torch.equal(few.y, many.y[:500])
    assert not torch.equal(many.x[:863], many.x[37_137:])  # the second table is not the first again


def test_crowded_rows_can_be_left_out_and_the_others_stay_where_they_are() -> None:
    column, whole = 5, load_housing("surrogate")
    bound = float(whole.train.x[:, column].quantile(0.99))
    part = load_housing("surrogate", max_occupancy=bound)
    for own, all_rows in ((part.train, whole.train), (part.val, whole.val)):
        kept = all_rows.x[:, column] <= bound
        assert 0 < kept.sum() < len(kept)
        assert torch.equal(own.x, all_rows.x[kept]) and torch.equal(own.y, all_rows.y[kept])
    assert torch.equal(part.test.x, whole.test.x) and f"{len(part.train.x)} training" in part.provenance
    for bad in (0.0, float("nan")):
        with pytest.raises(ValueError, match="max_occupancy = "):
            load_housing("surrogate", max_occupancy=bad)


def test_surrogate_does_not_touch_global_random_states() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    load_housing("surrogate", split_seed=7)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_surrogate_has_the_grain_of_the_real_table(embedded: Housing) -> None:
    x, y = embedded.train.x.double(), embedded.train.y
    for name, decimals in (("MedInc", 4), ("HouseAge", 0), ("Latitude", 2), ("Longitude", 2)):
        column = x[:, FEATURES.index(name)]
        assert (column - column.round(decimals=decimals)).abs().max() < 1e-4 / 2
    assert 2 <= x[:, 1].min() and x[:, 1].max() <= 52 and len(x[:, 1].unique()) == 51
    assert 0.149 < y.min() and y.max() == np.float32(5.00001)
    assert 0.04 < (y == y.max()).float().mean() < 0.06  # the cap of the census at 500,001 US$


def test_parameter_file_is_small_and_holds_no_rows() -> None:
    assert generator.FILE.stat().st_size < 200_000
    with np.load(generator.FILE, allow_pickle=False) as file:
        for name in file.files:
            assert max(file[name].shape) < 500, name


@pytest.mark.parametrize("source", ["", "Kaggle", "kagle", "auto "])
def test_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=f"source must be one of auto, kaggle, .*got '{source}'"):
        load_housing(source)


def test_source_of_wrong_type_is_refused() -> None:
    with pytest.raises(TypeError, match="source must be a string"):
        load_housing(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (0.5, TypeError), ("0", TypeError), (True, TypeError)])
def test_bad_seeds_are_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="split_seed must be an integer >= 0"):
        load_housing("surrogate", split_seed=value)  # type: ignore[arg-type]
    with pytest.raises(error, match="seed must be an integer >= 0"):
        surrogate(10, seed=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), (True, TypeError)])
def test_bad_row_numbers_are_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="n_rows must be an integer >= 1"):
        surrogate(value, seed=0)  # type: ignore[arg-type]


# --- Kaggle's files: found, read, refused --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fake_files() -> Files:
    """Two csv files of Kaggle's shape and size with made-up rows."""
    rows = surrogate(37_137 + 24_759, seed=11)
    table = np.column_stack([np.arange(len(rows.x)), rows.x.double(), rows.y.double()])
    files = {}
    for name, part, columns in (("train.csv", table[:37_137], 10), ("test.csv", table[37_137:], 9)):
        text = io.StringIO()
        fmt = ["%d"] + ["%.9g"] * (columns - 1)
        np.savetxt(text, part[:, :columns], delimiter=",", fmt=fmt)
        files[name] = ",".join(["id", *FEATURES, TARGET][:columns]) + "\n" + text.getvalue()
    return files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that LAI_DATA names."""
    path = tmp_path / "kaggle"
    path.mkdir()
    monkeypatch.setenv("LAI_DATA", str(path))
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LAI_DATA unset, the working folder empty and the repository's own data folder out of sight."""
    monkeypatch.delenv("LAI_DATA", raising=False)
    monkeypatch.setattr(housing, "KAGGLE_FOLDER", Path("data") / "for-this-test-only")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


@pytest.mark.parametrize("source", ["auto", "kaggle"])
def test_kaggle_files_are_found_through_the_setting(folder: Path, fake_files: Files, source: str) -> None:
    write(folder, fake_files)
    data = load_housing(source)
    rows = surrogate(37_137 + 24_759, seed=11)
    assert data.source == "kaggle" and "Kaggle" in data.provenance
    assert ("chosen by auto" in data.provenance) == (source == "auto")
    assert "altered" in data.provenance  # made-up values are not those that Kaggle published
    assert torch.equal(data.test.x, rows.x[37_137:]) and data.test.y is None
    order = torch.randperm(37_137, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([data.val.x, data.train.x]), rows.x[:37_137][order])
    assert torch.equal(torch.cat([data.val.y, data.train.y]), rows.y[:37_137][order])


def test_column_order_line_ends_and_blank_lines_do_not_matter(folder: Path, fake_files: Files) -> None:
    write(folder, fake_files)
    expected = load_housing("kaggle")
    lines = [line.split(",") for line in fake_files["train.csv"].splitlines()]
    text = "\ufeff" + "\r\n".join(",".join(reversed(line)) for line in lines) + "\r\n\r\n"
    write(folder, {"train.csv": text})
    data = load_housing("kaggle")
    assert data.sha256 == expected.sha256 and torch.equal(data.train.x, expected.train.x)


def test_default_folder_is_found_from_the_working_folder(nowhere: Path, fake_files: Files) -> None:
    assert load_housing("auto").source == "surrogate"
    write(nowhere / housing.KAGGLE_FOLDER, fake_files)
    assert load_housing("auto").source == "kaggle"


def test_default_folder_is_found_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_files: Files
) -> None:
    monkeypatch.delenv("LAI_DATA", raising=False)
    monkeypatch.setattr(housing, "KAGGLE_FOLDER", Path("data") / "for-this-test-only")
    monkeypatch.setattr(housing, "__file__", str(tmp_path / "repo" / "evidence" / "data" / "housing.py"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write(tmp_path / "repo" / housing.KAGGLE_FOLDER, fake_files)
    assert load_housing("auto").source == "kaggle"


@pytest.mark.parametrize("word", ["none", "None", " NONE "])
def test_none_switches_the_search_off(
    nowhere: Path, fake_files: Files, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    write(nowhere / housing.KAGGLE_FOLDER, fake_files)
    monkeypatch.setenv("LAI_DATA", word)
    data = load_housing("auto")
    assert data.source == "surrogate" and "chosen by auto: no Kaggle files" in data.provenance
    with pytest.raises(FileNotFoundError, match="LAI_DATA=none switches"):
        load_housing("kaggle")


def test_kaggle_without_a_folder_says_where_it_looked(nowhere: Path) -> None:
    with pytest.raises(FileNotFoundError, match="for-this-test-only/ in the working folder.*Download train.csv"):
        load_housing("kaggle")


@pytest.mark.parametrize("source", ["auto", "kaggle"])
def test_setting_that_names_no_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("LAI_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match="LAI_DATA=.*typo.*found nothing there.*Download"):
        load_housing(source)
    (tmp_path / "typo").write_text("")
    with pytest.raises(FileNotFoundError, match="found a file"):
        load_housing(source)
    assert load_housing("surrogate").source == "surrogate"  # which does not ask the setting


def test_incomplete_default_folder_is_an_error_not_a_fallback(nowhere: Path, fake_files: Files) -> None:
    write(nowhere / housing.KAGGLE_FOLDER, {"train.csv": fake_files["train.csv"]})
    with pytest.raises(FileNotFoundError, match=r"test\.csv: expected this file, found in its folder: train\.csv"):
        load_housing("auto")


def edit_line(name: str, number: int, change: Callable[[str], str]) -> Callable[[Files], Files]:
    def edit(files: Files) -> Files:
        lines = files[name].split("\n")
        lines[number - 1] = change(lines[number - 1])
        return files | {name: "\n".join(lines)}

    return edit


def set_field(name: str, number: int, column: int, text: str) -> Callable[[Files], Files]:
    def change(line: str) -> str:
        fields = line.split(",")
        fields[column] = text
        return ",".join(fields)

    return edit_line(name, number, change)


def drop_line(name: str, number: int) -> Callable[[Files], Files]:
    def edit(files: Files) -> Files:
        lines = files[name].split("\n")
        del lines[number - 1]
        return files | {name: "\n".join(lines)}

    return edit


BROKEN: dict[str, tuple[str, Callable[[Files], Files], tuple[str, ...]]] = {
    "renamed column": ("train.csv", set_field("train.csv", 1, 1, "Income"), ("missing: MedInc", "expected: Income")),
    "extra column": ("test.csv", edit_line("test.csv", 1, lambda s: s + ",Rooms"), ("not expected: Rooms",)),
    "column twice": ("test.csv", set_field("test.csv", 1, 2, "MedInc"), ("missing: HouseAge",)),
    "nan": ("train.csv", set_field("train.csv", 5001, 6, "NaN"), ("finite", "nan in line 5001, column AveOccup")),
    "infinite": ("test.csv", set_field("test.csv", 7, 1, "-inf"), ("finite", "-inf in line 7, column MedInc")),
    "no value": ("train.csv", set_field("train.csv", 9, 9, ""), ("no value in line 9, column MedHouseVal",)),
    "text": ("test.csv", set_field("test.csv", 12, 8, "west"), ("a number", "'west' in line 12, column Longitude")),
    "row missing": ("train.csv", drop_line("train.csv", 300), ("37137 rows", "found 37136")),
    "row missing in test": ("test.csv", drop_line("test.csv", 300), ("24759 rows", "found 24758")),
    "row too many": (
        "test.csv",
        lambda files: files | {"test.csv": files["test.csv"] + "61896,1,1,1,1,1,1,1,1\n"},
        ("24759 rows", "found 24760"),
    ),
    "cut off between lines": (
        "train.csv",
        lambda files: files | {"train.csv": "".join(files["train.csv"].splitlines(keepends=True)[:20_000])},
        ("37137 rows", "found 19999", "cut off"),
    ),
    "cut off within a line": (
        "train.csv",
        lambda files: files | {"train.csv": files["train.csv"][:1_000_000].rsplit(",", 3)[0]},
        ("10 values in every line", "cut off"),
    ),
    "swapped": (
        "train.csv",
        lambda files: {"train.csv": files["test.csv"], "test.csv": files["train.csv"]},
        ("missing: MedHouseVal", "swapped?"),
    ),
    "training file twice": (
        "test.csv",
        lambda files: files | {"test.csv": files["train.csv"]},
        ("not expected: MedHouseVal", "swapped?"),
    ),
    "other competition file": (
        "test.csv",
        lambda files: files | {"test.csv": "id,MedHouseVal\n37137,2.0\n"},
        ("missing: MedInc", "not expected: MedHouseVal"),
    ),
    "rows in another order": (
        "train.csv",
        lambda files: files | {"train.csv": "\n".join([(s := files["train.csv"].split("\n"))[0], s[2], s[1], *s[3:]])},
        ("ids 0 to 37136 in order", "id 1 in line 2 instead of 0"),
    ),
    "empty": ("train.csv", lambda files: files | {"train.csv": ""}, ("an empty file",)),
    "header only": (
        "test.csv",
        lambda files: files | {"test.csv": files["test.csv"].split("\n")[0]},
        ("24759 rows", "found 0"),
    ),
    "web page": (
        "train.csv",
        lambda files: files | {"train.csv": "<!DOCTYPE html>\n<html>sign in</html>\n"},
        ("the columns id, MedInc", "<!DOCTYPE html>"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_by_name(folder: Path, fake_files: Files, case: str) -> None:
    culprit, change, parts = BROKEN[case]
    write(folder, change(fake_files))
    with pytest.raises(ValueError) as caught:
        load_housing("auto")
    message = str(caught.value)
    assert message.startswith(f"{folder / culprit}: expected ")
    assert "Download train.csv and test.csv from https://www.kaggle.com/competitions/playground-series-s3e1" in message
    for part in (", found ", *parts):
        assert part in message


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_missing_file_is_named(folder: Path, fake_files: Files, name: str) -> None:
    write(folder, fake_files)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: expected this file.*Download"):
        load_housing("auto")


def test_bytes_that_are_not_text_are_refused(folder: Path, fake_files: Files) -> None:
    write(folder, fake_files)
    (folder / "train.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00\x80" * 10)
    with pytest.raises(ValueError, match=r"train\.csv: expected a csv file in UTF-8, found bytes.*zip"):
        load_housing("kaggle")


# --- The 1990 census, through a stand-in for scikit-learn -------------------------------------------------------------


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A stand-in for sklearn.datasets: a test sets its fetch_california_housing."""
    module = types.ModuleType("sklearn.datasets")
    monkeypatch.setitem(sys.modules, "sklearn", types.ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
    yield module


def fetch_with(columns: tuple[str, ...]) -> Callable[[], types.SimpleNamespace]:
    rows = surrogate(20_640, seed=2)
    data, target = rows.x.double().numpy(), rows.y.double().numpy()
    return lambda: types.SimpleNamespace(data=data, target=target, feature_names=list(columns))


def test_california_is_cut_as_kaggle_is(loader: types.ModuleType) -> None:
    loader.fetch_california_housing = fetch_with(FEATURES)  # type: ignore[attr-defined]
    data = load_housing("california")
    assert (len(data.train.x), len(data.val.x), len(data.test.x)) == (9_907, 2_477, 8_256)  # 60 : 40, then a fifth
    assert data.source == "california" and "California" in data.provenance and data.sha256 in data.provenance
    assert data.test.y is not None
    rows = surrogate(20_640, seed=2)
    test = housing.Split(data.test.x, data.test.y)
    assert torch.equal(sorted_rows(data.train, data.val, test), sorted_rows(rows))
    assert not torch.equal(data.test.x, rows.x[-8_256:])  # shuffled: the table is sorted by place
    other = load_housing("california", split_seed=5)
    assert torch.equal(other.test.x, data.test.x) and not torch.equal(other.val.x, data.val.x)


def test_california_with_other_columns_is_refused(loader: types.ModuleType) -> None:
    loader.fetch_california_housing = fetch_with(("Income", *FEATURES[1:]))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expected the columns MedInc.*found Income"):
        load_housing("california")


def test_california_without_a_network_says_so(loader: types.ModuleType) -> None:
    def fail() -> None:
        raise ConnectionResetError("no route")

    loader.fetch_california_housing = fail  # type: ignore[attr-defined]
    with pytest.raises(OSError, match='could not fetch the table.*no route.*source="surrogate" needs none'):
        load_housing("california")


def test_california_without_scikit_learn_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="needs scikit-learn .pip install scikit-learn."):
        load_housing("california")


# --- How close the surrogate comes; these need Kaggle's files ---------------------------------------------------------


@pytest.fixture(scope="module")
def kaggle() -> Housing:
    if housing._kaggle_folder() is None:
        pytest.skip("needs Kaggle's files: set LAI_DATA or fill data/playground-series-s3e1/ (see README)")
    return load_housing("kaggle")


def whole(data: Housing) -> Array:
    """All training rows with the target, (37137, 9)."""
    x, y = torch.cat([data.train.x, data.val.x]), torch.cat([data.train.y, data.val.y])
    return torch.column_stack([x, y]).double().numpy()


def ks_distances(a: Array, b: Array) -> Array:
    """The Kolmogorov-Smirnov distance of each column of two samples."""
    out = []
    for columns in zip(a.T, b.T, strict=True):
        points = np.concatenate(columns)
        first, second = (np.searchsorted(np.sort(column), points, "right") / len(column) for column in columns)
        out.append(np.abs(first - second).max())
    return np.array(out)


def ranks(table: Array) -> Array:
    """Twice the mid-ranks of each column."""
    columns = [np.sort(column) for column in table.T]
    sides = [[np.searchsorted(s, c, side) for s, c in zip(columns, table.T, strict=True)] for side in ("left", "right")]
    return np.sum(sides, axis=0).T.astype(float)


def correlation_gap(a: Array, b: Array) -> float:
    return float(np.abs(np.corrcoef(a.T) - np.corrcoef(b.T)).max())


def rmse(a: Array, b: Array) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def linear_rmse(data: Housing) -> float:
    """Validation RMSE of ordinary least squares."""
    design = [np.column_stack([np.ones(len(s.x)), s.x.double()]) for s in (data.train, data.val)]
    weights = np.linalg.lstsq(design[0], data.train.y.double().numpy(), rcond=None)[0]
    return rmse(design[1] @ weights, data.val.y.double().numpy())


def networks_rmse(train: housing.Split, *others: housing.Split) -> list[float]:
    """The mean RMSE on each of ``others`` of four 64-32 networks, trained side by side on standardised inputs."""
    copies, epochs, batch = 4, 20, 512
    generator = torch.Generator().manual_seed(0)
    mean, std = train.x.mean(0), train.x.std(0)
    inputs = (train.x - mean) / std
    layers = []
    for n_in, n_out in ((8, 64), (64, 32), (32, 1)):
        for rows in (n_in, 1):
            layers.append((torch.rand(copies, rows, n_out, generator=generator) * 2 - 1) / n_in**0.5)
    layers = [layer.requires_grad_() for layer in layers]

    def forward(h: torch.Tensor) -> torch.Tensor:
        h = h.expand(copies, *h.shape)
        for i in (0, 2, 4):
            h = torch.baddbmm(layers[i + 1], nn.functional.silu(h) if i else h, layers[i])
        return h[..., 0]

    optimiser = torch.optim.Adam(layers, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(inputs) // batch))
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for chosen in order.split(batch)[: len(inputs) // batch]:
            optimiser.zero_grad()
            ((forward(inputs[chosen]) - train.y[chosen]) ** 2).mean(1).sum().backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        errors = [forward((other.x - mean) / std) - other.y for other in others]
        return [float((error**2).mean(1).sqrt().mean()) for error in errors]


@pytest.fixture(scope="module")
def network_rmse(kaggle: Housing, embedded: Housing) -> dict[str, float]:
    """Validation RMSE of networks by what they were trained on and what they predict."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (real,) = networks_rmse(kaggle.train, kaggle.val)
    made, transfer = networks_rmse(embedded.train, embedded.val, kaggle.val)
    torch.set_num_threads(threads)
    return {"real, real": real, "made, made": made, "made, real": transfer}


def test_kaggle_files_are_the_published_ones(kaggle: Housing) -> None:
    assert kaggle.sha256 == KAGGLE_SHA256 and "altered" not in kaggle.provenance
    assert len(kaggle.train.x) + len(kaggle.val.x) == 37_137 and kaggle.test.x.shape == (24_759, 8)
    assert kaggle.test.y is None


def test_first_split_keeps_the_far_outlier_in_training(kaggle: Housing, embedded: Housing) -> None:
    # One row with 503 people per household decides the validation error of any model that extrapolates.
    for data in (kaggle, embedded):
        assert data.train.x[:, 5].max() > 500 and data.val.x[:, 5].max() < 50


def test_marginals_match(kaggle: Housing, embedded: Housing) -> None:
    distances = ks_distances(whole(kaggle), whole(embedded))
    assert distances.shape == (9,) and distances.max() <= 0.02


def test_correlations_match(kaggle: Housing, embedded: Housing) -> None:
    real, made = whole(kaggle), whole(embedded)
    assert correlation_gap(real, made) <= 0.05
    assert correlation_gap(ranks(real), ranks(made)) <= 0.05


def test_linear_regression_finds_it_as_hard(kaggle: Housing, embedded: Housing) -> None:
    assert linear_rmse(embedded) == pytest.approx(linear_rmse(kaggle), rel=0.03)


@pytest.mark.long
def test_networks_find_it_as_hard(network_rmse: dict[str, float]) -> None:
    assert network_rmse["made, made"] == pytest.approx(network_rmse["real, real"], rel=0.03)


@pytest.mark.long
def test_networks_trained_on_the_surrogate_predict_real_rows(network_rmse: dict[str, float]) -> None:
    assert network_rmse["made, real"] <= 1.10 * network_rmse["real, real"]


def test_no_generated_row_is_a_real_row(kaggle: Housing, embedded: Housing) -> None:
    def keys(x: torch.Tensor) -> set[bytes]:
        return {row.tobytes() for row in x.numpy()}

    real = keys(torch.cat([kaggle.train.x, kaggle.val.x, kaggle.test.x]))
    made = keys(torch.cat([embedded.train.x, embedded.val.x, embedded.test.x]))
    assert keys(kaggle.val.x) <= real  # the comparison sees a copied row
    assert not real & made


def test_generated_rows_are_no_nearer_to_the_fitted_ones_than_new_real_rows(kaggle: Housing, embedded: Housing) -> None:
    # Rows learnt by heart, noise added, would pass the test above. The generator never saw Kaggle's test rows.
    known = torch.cat([kaggle.train.x, kaggle.val.x])
    low, high = torch.from_numpy(np.quantile(known.numpy(), [0.001, 0.999], axis=0)).float()
    spread = known.clamp(low, high).std(0)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x.clamp(low, high) / spread

    def nearest(x: torch.Tensor) -> float:
        return float(torch.cdist(scaled(x), scaled(known)).min(1).values.quantile(0.05))

    new, made = nearest(kaggle.test.x[:1500]), nearest(embedded.test.x[:1500])
    noise = torch.randn(1500, 8, generator=torch.Generator().manual_seed(0)) * spread
    copies = nearest(known[:1500] + 0.5 * new / 8**0.5 * noise)
    assert copies < 0.8 * new <= made


def test_the_measures_see_a_bad_surrogate(kaggle: Housing) -> None:
    real = whole(kaggle)
    rng = np.random.default_rng(0)
    shuffled = real.copy()
    shuffled[:, 0] = rng.permutation(shuffled[:, 0])
    assert correlation_gap(real, shuffled) > 0.05 and correlation_gap(ranks(real), ranks(shuffled)) > 0.05
    shifted = real + 0.1 * real.std(0)
    assert (ks_distances(real, shifted) > 0.02).all()
    noisy = kaggle.train.y + 0.3 * torch.randn(kaggle.train.y.shape, generator=torch.Generator().manual_seed(0))
    noisy_val = kaggle.val.y + 0.3 * torch.randn(kaggle.val.y.shape, generator=torch.Generator().manual_seed(1))
    parts = {"train": housing.Split(kaggle.train.x, noisy), "val": housing.Split(kaggle.val.x, noisy_val)}
    worse = Housing(**(vars(kaggle) | parts))
    assert linear_rmse(worse) > 1.03 * linear_rmse(kaggle)


# --- The sensor --------------------------------------------------------------------------------------------------


def test_readings_scatter_around_the_wave_and_the_five_are_among_the_first() -> None:
    x, y = sensor_readings(400)
    noise = y - torch.sin(3 * x)
    assert noise.mean().abs() < 0.02 and float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert torch.equal(sensor_readings(2)[1], y[:2]) and x.dtype == y.dtype == torch.float64
    at, five = five_readings()
    assert torch.equal(y[0, torch.isin(x, at)], five) and float(at.diff().std()) < 1e-12
    # what the first chapters say of them: the squared Lai loss of a line at λ = 1 is least at slope 1, below least squares
    slopes = torch.linspace(0, 3, 3001, dtype=torch.float64)
    mse = ((slopes[:, None] * (at - at.mean()) + five.mean() - five) ** 2).mean(1)
    lai = mse * (slopes**2).clamp(min=1) / (1 + slopes**2)
    assert [float(slopes[loss.argmin()]) for loss in (mse, lai)] == pytest.approx(
        [np.polyfit(at, five, 1)[0], 1], abs=1e-3
    )


@pytest.mark.parametrize("seeds", [0, -1, 2.0, True])
def test_a_wrong_number_of_data_sets_is_refused(seeds: object) -> None:
    with pytest.raises(ValueError, match="^seeds = "):
        sensor_readings(seeds)  # type: ignore[arg-type]
