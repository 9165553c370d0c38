"""The tables of the pages without code, most of them on reproducibility: recompute them from book/results, and compare or write.

With --check it says which of them differ, and fails if any does. With --write it puts them into the page. They stand between
comments such as <!-- results --> and <!-- end results -->; the text around them is written by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.losses import STAGES, WEIGHTS_ONLY
from evidence.ledger.paper import V1_SAMPLING, V1_SMOOTHNESS, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.stats import bootstrap_mean, paired
from evidence.ledger.tables import reach
from evidence.relatives import METHODS, TASKS
from evidence.relatives.compare import (
    CLOSEST,
    MEASURES,
    MSE,
    PAIRS,
    closest,
    differences,
    in_pairs,
    relative,
    saved,
    standardised,
    tally,
)
from evidence.relatives.methods import UNITS, Method
from evidence.relatives.tasks import FEW_ROWS
from evidence.runs.arms import plain_twin
from evidence.runs.experiments import EXPERIMENTS
from evidence.runs.protocols import PROTOCOLS
from evidence.studies.products import KEPT, products_by_widths
from tools.files import replace_texts

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(
    ROOT / name
    for name in (
        "book/reproducibility.md",
        "book/intro.md",
        "book/should_i_use_it.md",
        "book/story.md",
        "book/what_it_costs.md",
        "book/relatives_protocol.md",
        "README.md",
    )
)
RESULTS = ROOT / "book" / "results"

Change = Callable[[pd.DataFrame], np.ndarray]
"""From one protocol's runs to a paired difference, one for each seed."""


def difference(metric: str, arm: str, control: str = "MSE") -> Change:
    return lambda runs: paired(runs, metric, arm, control)


def share(metric: str, arm: str) -> Change:
    def change(runs: pd.DataFrame) -> np.ndarray:
        mse = runs[runs["arm"] == "MSE"].set_index("seed").sort_index()[metric].to_numpy()
        return paired(runs, metric, arm, "MSE") / mse

    return change


_LIST = "λ = 0.1, λ₈ = 0.001"
_FEW, _ALL = "λ = 0.0001, α = 0.01", "λ = 0.001, α = 1"
_MSE, _ONE, _OTHER = (V2_SENSITIVITY[key] for key in ("mse", "lam = 1e-1", "lam_8 = 1e-3"))

# Table, what of it, the paper's figure, ours, how to print both.
LINES: tuple[tuple[str, str, float, Change, str], ...] = (
    ("strength", "RMSE, λ = 0.001 minus MSE", V1_SMOOTHNESS[1e-3][0] - V1_SMOOTHNESS[None][0], difference("rmse", "λ = 0.001"), "+.3f"),
    ("strength", "variance, λ = 0.001 minus MSE", V1_SMOOTHNESS[1e-3][1] - V1_SMOOTHNESS[None][1], difference("variance", "λ = 0.001"), "+.2f"),
    ("sampling", "RMSE, α = 0.01 and λ = 0.0001 minus α = 1 and λ = 0.001", V1_SAMPLING[0.01, 1e-4][0] - V1_SAMPLING[1.0, 1e-3][0], difference("rmse", _FEW, _ALL), "+.3f"),
    ("smoothness", "RMSE, λ = 0.001 minus MSE", V2_SMOOTHNESS[1e-3][0] - V2_SMOOTHNESS[None][0], difference("rmse", "λ = 0.001"), "+.3f"),
    ("smoothness", "variance, λ = 0.001 minus MSE", V2_SMOOTHNESS[1e-3][1] - V2_SMOOTHNESS[None][1], difference("variance", "λ = 0.001"), "+.2f"),
    ("sensitivity", "sensitivity to X₈, λ = 0.1 against MSE", _ONE[7] / _MSE[7] - 1, share("s_8", "λ = 0.1"), "+.1%"),
    ("sensitivity", "sensitivity to X₈, λ₈ = 0.001 against MSE", _OTHER[7] / _MSE[7] - 1, share("s_8", _LIST), "+.1%"),
    ("sensitivity", "RMSE, λ₈ = 0.001 against MSE", 0.024, share("rmse", _LIST), "+.1%"),
)  # fmt: skip

BUDGETS = (0.01, 0.024, 0.05)
"""What a list of λ may cost in error; the paper says that its own cost 2.4 %."""


def results(folder: Path) -> str:
    """A line for each thing that a table of the paper says, beside what ours say."""
    rows = []
    for name, what, printed, change, form in LINES:
        table = pd.read_csv(folder / f"{name}.csv")
        cells = [in_words(change(table[table["protocol"] == protocol]), form) for protocol in PROTOCOLS]
        rows.append([linked(name), what, format(printed, form), *cells])
    table = pd.read_csv(folder / "lists.csv")
    reached = {protocol: reach(table, protocol, feature=8, budgets=BUDGETS) for protocol in PROTOCOLS}
    for n, budget in enumerate(BUDGETS):
        cells = [shown(float(reached[protocol]["own"].iloc[n])) for protocol in PROTOCOLS]
        rows.append([linked("lists"), f"sensitivity to X₈, best of the lists at {budget:+.1%} RMSE", "–", *cells])
    return markdown(["table", "what", "paper", *PROTOCOLS], rows)


def in_words(sample: np.ndarray, form: str) -> str:
    mean, low, high = bootstrap_mean(sample)
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def shown(value: float) -> str:
    return f"{value:+.1%}" if np.isfinite(value) else "not reached"


def provenance(folder: Path) -> dict[str, dict[str, Any]]:
    """Of every table of the paper's that is kept, on the paper's data."""
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in EXPERIMENTS}


def arms(folder: Path) -> str:
    """What was trained."""
    rows = []
    for name, about in provenance(folder).items():
        runs = pd.read_csv(folder / f"{name}.csv").groupby("protocol", sort=False).size()
        seeds = f"{about['seeds'][0]} to {about['seeds'][-1]}"
        epochs = re.sub(r" of MSE, then (\d+) with each loss", r" + \1", about["epochs"])
        trained = [f"{runs[protocol]}" if protocol in runs else "–" for protocol in PROTOCOLS]
        rows.append([linked(name), epochs, seeds, *trained])
    return markdown(["table", "epochs", "seeds", *PROTOCOLS], rows)


def second(folder: Path) -> str:
    """How the second implementation compares, table by table, at the level of all comparisons together."""
    kept = pd.read_csv(folder / "second_implementation.csv")
    rows = []
    for name, runs in kept.groupby("table", sort=False):
        rmse = runs[runs["measure"] == "rmse"]
        adjusted = np.minimum(1, runs["p"] * len(kept))
        rows.append(
            [
                linked(str(name)),
                f"{len(runs)}",
                f"{(adjusted > LEVEL).sum()}",
                f"{adjusted.min():.2g}",
                f"{(rmse['second'] - rmse['book']).abs().max():.3f}",
                f"{rmse['detectable'].max():.3f}",
            ]
        )
    heads = [
        "table",
        "comparisons",
        "that agree",
        "least p, adjusted",
        "largest difference of RMSE",
        "difference that would be found",
    ]
    level = f"{100 * LEVEL:g} %"
    said = f"The level of the test is {level} for all {len(kept)} comparisons together: two means agree if p, multiplied by {len(kept)}, is above {LEVEL:g}."
    return f"{said}\n\n{markdown(heads, rows)}"


LEVEL = 0.01
"""Of the test against the second implementation, all comparisons together."""


def costs(folder: Path) -> str:
    """The compute card; its last line counts a run that tables share once."""
    rows: list[list[str]] = []
    once: dict[tuple, float] = {}
    about_all = provenance(folder)
    for name, about in about_all.items():
        seconds = about["cpu_seconds"]
        table = pd.read_csv(folder / f"{name}.csv")
        for run in table[["protocol", "arm", "alpha", "seed"]].itertuples(index=False):
            protocol, arm = str(run.protocol), str(run.arm)
            seeds = ((table["protocol"] == protocol) & (table["arm"] == arm)).sum()
            trained = plain_twin(protocol) if arm == "MSE" else protocol
            key = about["epochs"], trained, arm.removesuffix(f", α = {run.alpha:g}"), run.alpha, run.seed
            once.setdefault(key, seconds[protocol][arm] / seeds)
        seconds = {protocol: sum(of_arms.values()) for protocol, of_arms in seconds.items()}
        rows.append([linked(name), *_seconds(seconds), f"{about['peak_mb']} MiB, {about['device']}"])
    whole = {protocol: sum(s for key, s in once.items() if key[1] == protocol) for protocol in PROTOCOLS}
    rows.append(["all, each run once", *_seconds(whole), ""])
    calls = {(*about["tables_of_last_call"], about["wall_seconds_of_last_call"]) for about in about_all.values()}
    said = [
        f"`make reproduce` for {', '.join(tables)}: {wall / 60:.0f} min." for *tables, wall in sorted(calls, key=str)
    ]
    head = ["table", *PROTOCOLS, "together", "memory, on"]
    return "\n\n".join([markdown(head, rows), "Wall time of the last call. " + " ".join(said)])


def _seconds(seconds: Mapping[str, float]) -> list[str]:
    each = [f"{seconds[p]:,.0f}" if p in seconds else "–" for p in PROTOCOLS]
    return [*each, f"{sum(seconds.values()) / 60:.0f} min"]


def environments(folder: Path) -> str:
    """Versions and hardware, and which tables were made with them."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, about in provenance(folder).items():
        versions = ", ".join(
            f"{package} {version}" for package, version in about["versions"].items() if package != "lai"
        )
        key = f"{versions}; sources of the library {about['versions']['lai']}", about["hardware"]
        found.setdefault(key, []).append(name)
    rows = [[", ".join(names), versions, hardware] for (versions, hardware), names in found.items()]
    return markdown(["tables", "versions", "hardware"], rows)


TOLERANCES = {
    "published": {"rmse": 0.07, "variance": 0.23, "rms_k": 0.15},
    "corrected": {"rmse": 0.08, "variance": 0.15, "rms_k": 0.12},
    "sound": {"rmse": 0.02, "variance": 0.03, "rms_k": 0.05},
}
"""How far one run may be from its committed figures on another machine, in their units: at least twice what was measured in
rounding.csv."""


def tolerances(folder: Path) -> str:
    """What a change of initial weights by rounding's order did, and what the tests allow."""
    table = pd.read_csv(folder / "rounding.csv")
    rows = []
    for protocol, runs in table.groupby("protocol", sort=False):
        allowed = TOLERANCES[str(protocol)]
        moved = {metric: (runs[f"{metric}_again"] - runs[metric]).abs().max() for metric in [*allowed, "rmse_last"]}
        cells = [f"{moved[metric]:.4f}, allowed {limit:g}" for metric, limit in allowed.items()]
        rows.append([str(protocol), f"{len(runs)}", *cells, f"{moved['rmse_last']:.4f}"])
    return markdown(["protocol", "runs", "RMSE", "variance", "slope", "RMSE, last step"], rows)


def short(folder: Path) -> str:
    """What each λ does in the sound protocol, one Lai batch in a hundred, in per cent of MSE's."""
    runs = pd.read_csv(folder / "smoothness.csv").query("protocol == 'sound'")
    metrics = {"slope": "rms_k", "RMSE": "rmse", "RMSE with noise on the inputs": "rmse_noisy", "variance": "variance"}
    rows = [
        [arm, *(in_words(share(metric, arm)(runs), "+.1%") for metric in metrics.values())]
        for arm in runs["arm"].unique()
        if arm != "MSE"
    ]
    return markdown(["against MSE", *metrics], rows)


def advice(folder: Path) -> str:
    """Whether to use it, in one sentence."""
    pairs = in_pairs(saved(folder))
    said = tally(pairs.loc[(pairs["measure"] == "error at 60 %") & pairs["pair"].isin(_standard()), "word"])
    return (
        "To make a model flatter, begin with the plain slope penalty or with noise on the inputs. At 60 % of the slope of an MSE model, in standardised units, Lai loss has "
        f"a larger error than the penalty in {said['worse']} of {said['compared']} comparisons, and a smaller one in {said['better'] or 'none'}."
    )


def through(folder: Path) -> str:
    """What λ = 0.001 in every batch does with the slope through BatchNorm and with the true one, beside what version 1 prints."""
    table = pd.read_csv(folder / "strength.csv")
    means = table.groupby(["protocol", "arm"])[["variance", "rmse"]].mean().T
    plain, small = V1_SMOOTHNESS[None], V1_SMOOTHNESS[1e-3]
    rows = [["the paper, one run", f"{small[1] / plain[1]:.0%}", f"{small[0] / plain[0] - 1:+.0%}"]]
    for protocol, slope in (("published", "through BatchNorm"), ("corrected", "the network's own")):
        kept = means[protocol, "λ = 0.001"] / means[protocol, "MSE"]
        seeds = table.loc[table["protocol"] == protocol, "seed"].nunique()
        rows.append([f"{slope}, {seeds} runs", f"{kept['variance']:.0%}", f"{kept['rmse'] - 1:+.0%}"])
    return markdown(["slope that the loss is given", "variance that is left", "change of the error (RMSE)"], rows)


def _standard() -> list[str]:
    return [pair for pair, (*_, units) in PAIRS.items() if units == UNITS[0]]


def answer(folder: Path) -> str:
    """What the comparison with relatives comes to: against MSE, against the penalty at equal slope and at equal error, beside noise."""
    table = saved(folder)
    n_tasks, n_trials = table["task"].nunique(), saved(folder, "relatives_fronts")["trial"].nunique()
    pairs = in_pairs(table).set_index(["measure", "pair"])["word"]
    at_60, budget = pairs["error at 60 %"], pairs["slope at equal error"]
    all_60, standard, slopes = tally(at_60), tally(at_60[at_60.index.isin(_standard())]), tally(budget)
    lai = tally(differences(table, "rmse", ("Lai", "standardised"), MSE, comparisons=n_tasks)["word"])
    near = closest(table).groupby("pair")["word"].agg(tally)
    noise, penalty = near["Lai loss against noise"], near["the penalty against noise"]
    looked = f"{n_tasks} with MSE, {len(PAIRS) * len(MEASURES) * n_tasks} with the penalty and {len(CLOSEST) * n_tasks} with noise or finite differences"
    return (
        f"On {n_tasks} tasks, with the best of {n_trials} strengths chosen on validation rows, Lai loss in every batch has a smaller error than MSE on {lai['better']} and a larger one on {lai['worse']}. On the others no difference is shown.\n\n"
        f"- At 60 % of MSE's slope, in the same units and in the same share of batches, Lai loss has a larger error than the plain slope penalty in {all_60['worse']} of {all_60['compared']} comparisons "
        f"({standard['worse']} of {standard['compared']} in standardised units) and a smaller one in {all_60['better'] or 'none'}.\n"
        f"- Where each may have a validation error of at most 1 % above MSE's, Lai loss gives a flatter model than the penalty in {slopes['better']} of {slopes['compared']} comparisons and a steeper one in {slopes['worse']}.\n"
        f"- At 60 % of MSE's slope, training with noise on the inputs, which needs no derivative, has less error than Lai loss on {noise['worse']} of {noise['compared']} tasks and more on {noise['better'] or 'none'}. "
        f"Noise has less error than the penalty on {number_of(penalty['worse'], 'task')} and more on {penalty['better']}.\n\n"
        f"The intervals behind these counts are paired by seed and corrected for the number of comparisons: {looked}."
    )


def sparse(folder: Path) -> str:
    """How Lai loss compares with the penalty in one batch of a hundred, in all units."""
    pairs = in_pairs(saved(folder)).query("measure == 'error at 60 %'").groupby("pair")
    own = {units: pairs.get_group(pair) for pair, (*_, units) in PAIRS.items() if pair.startswith("α = 1 %")}
    said = {units: tally(rows["word"]) for units, rows in own.items()}
    above = [
        f"{(rows['mean'] > 0).sum()} of {said[units]['compared']} tasks in {units} units" for units, rows in own.items()
    ]
    larger = listed([f"{found['worse']}" for found in said.values()])
    fewer = [found["better"] for found in said.values()]
    smaller = listed([f"{n}" for n in fewer]) if any(fewer) else "none"
    return (
        f"With slopes in one batch of a hundred, the mean error of Lai loss at 60 % of MSE's slope is above the penalty's on {listed(above)}. "
        f"Its error is shown to be larger on {larger} of these tasks, and smaller on {smaller}."
    )


def forms(folder: Path) -> str:
    """How repairs are judged, at which slopes one passes, and what Lai loss against MSE comes to if all of its forms are counted."""
    table, repairs = saved(folder), [name for name, method in METHODS.items() if method.source == "ours"]
    n_tasks, against = table["task"].nunique(), ("Lai", "slope penalty")
    looked = len(repairs) * len(against) * len(UNITS) * n_tasks

    def words(one: str, other: str, share: str) -> pd.Series:
        variants = (one, UNITS[0]), (other, UNITS[0])
        return differences(table, f"at_{share}", *variants, comparisons=looked, to="rmse")["word"]

    passing = []
    for share in ("80", "60", "40"):
        found = {name: [tally(words(name, other, share)) for other in against] for name in repairs}
        good = [name for name, (lai, both) in found.items() if lai["better"] and not lai["worse"] + both["worse"]]
        passing += [f"{name} at {share} %" for name in good]
    few, many = (
        tally(differences(table, "rmse", ("Lai", UNITS[0]), MSE, comparisons=n)["word"])
        for n in (n_tasks, n_tasks * len(PAPERS))
    )
    return (
        f"- “At equal slope” is at 80, 60 and 40 % of MSE's slope. The repairs are judged at 60 % alone, and one of them at 40 % too. In standardised units {', '.join(passing) or 'no repair'} passes at {'that' if passing else 'any of the three'}.\n"
        f"- Lai loss in every batch is compared with MSE on {n_tasks} tasks, and the intervals are corrected for {n_tasks} comparisons: its least error is smaller on {few['better']} and larger on {few['worse']}. "
        f"If all {len(PAPERS)} forms of the loss are counted together, {n_tasks * len(PAPERS)} comparisons, it is smaller on {many['better']} and larger on {many['worse']}."
    )


def number_of(n: int, name: str) -> str:
    return f"{n} {name if n == 1 else f'{name}s'}"


def listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}"


class Aim(NamedTuple):
    """What a reader wants: the measure, MSE's that it is a change against, the trials' column, the tasks."""

    words: str
    measure: str
    to: str | None
    column: str
    tasks: tuple[str, ...] = tuple(TASKS)


AIMS = (
    Aim("least error", "rmse", None, "rmse_mean"),
    Aim("the same with fewer than 1,000 rows", "rmse", None, "rmse_mean", FEW_ROWS),
    Aim("least error with noise on the inputs", "least_noisy", None, "noisy_mean"),
    Aim("least error under the worst small shift of the inputs", "least_shifted", None, "shifted_mean"),
    Aim("at most 60 % of MSE's slope, at the least error", "at_60", "rmse", "rmse_mean"),
)
BEGIN = {
    "early stopping": "a share of {:.2g} of the steps",
    "weight decay": "`weight_decay` = {:.2g}",
    "dropout": "a share of {:.2g} of the units",
    "output shrinkage": "a share of {:.2g} of the outputs",
    "input noise": "a standard deviation of {:.2g}",
}
"""What the strength of a method is; λ of a Lai loss and β of a penalty elsewhere."""


def decisions(folder: Path) -> str:
    """For each aim the three methods of the best median change over the tasks and the best form of Lai loss: error, strength, cost."""
    table, trials, cost = saved(folder), saved(folder, "relatives_fronts"), pd.read_csv(folder / "cost.csv")
    steps = cost[(cost["part"] == "others") & (cost["outputs"] == 1)].set_index("way")["ratio"]
    rows = []
    for aim in AIMS:
        changes = standardised(relative(table[table["task"].isin(aim.tasks)], aim.measure, aim.to))
        if aim.to is not None:  # MSE has its own slope and no other
            changes = changes.drop(index="MSE")
        order = list(changes.dropna().median(axis=1).sort_values(kind="stable").index)
        ours = next(name for name in order if name in PAPERS)
        for i, name in enumerate(dict.fromkeys([*order[:3], ours])):
            own = changes.loc[name]
            told = [_percent(own.median()), f"{_percent(own.min())} to {_percent(own.max())}"]
            rows.append(["" if i else aim.words, name, *told, _begin(trials, name, aim), _cost(steps, METHODS[name])])
    return markdown(
        ["what you want", "method", "error against MSE", "over the tasks", "begin with", "time of a step"], rows
    )


def _percent(share: float) -> str:
    whole = round(100 * share)
    return f"{whole:+d} %" if whole else "0 %"


def _begin(trials: pd.DataFrame, name: str, aim: Aim) -> str:
    """The strength that is best for the aim on average over seeds, and of that the median over the tasks."""
    best = []
    for task in aim.tasks:
        of_task = trials[trials["task"] == task]
        own = of_task[(of_task["method"] == name) & (of_task["units"] == "standardised")]
        if aim.to is not None:
            own = own[own["slope_mean"] <= 0.6 * of_task.loc[of_task["method"] == "MSE", "slope_mean"].iloc[0]]
        if len(own):
            best.append(own["strength"].iloc[int(own[aim.column].argmin())])
    alpha = METHODS[name].alpha
    share = f", α = {alpha:.0%}".replace("%", " %") if alpha < 1 else ""
    told = BEGIN.get(name, "λ = {:.2g}" if name in PAPERS else "β = {:.2g}").format(np.median(best))
    return f"{told} ({min(best):.2g} to {max(best):.2g}){share}"


def _cost(steps: pd.Series, method: Method) -> str:
    """Relative to an MSE step, on average over the training."""
    name = "Lai loss" if method.name in PAPERS else method.name
    one = steps.get(name, 1.0) if name in BEGIN else steps[name]  # those need no slope
    return f"{1 + (1 - method.pretrain) * method.alpha * (one - 1):.2f}"


PAPERS = ("Lai", "Lai, L1", "Lai, elastic", "Lai, α = 10 %", "Lai, α = 1 %", "Lai Training")
"""The forms of the loss that are the paper's."""


def step(folder: Path) -> str:
    """What a Lai step costs in every network of the benchmark: what products alone predict, and the time as measured."""
    rows = []
    for _, run in _grid(folder).iterrows():
        where = [str(run[name] if name == "activation" else int(run[name])) for name in NETWORK]
        rows.append([*where, f"{run['predicted']:.2f}", *_with_spread(run), _signed(run["ratio"] - run["predicted"])])
    return markdown([*NETWORK, "products alone", "time", "quartiles", "what remains"], rows)


NETWORK = ["activation", "width", "depth", "batch", "inputs"]


def _grid(folder: Path) -> pd.DataFrame:
    """The times of the grid, with the ratio of products by the formula."""
    table = pd.read_csv(folder / "cost.csv").query("part == 'grid' and measure == 'time'")
    return table.assign(predicted=[_predicted(run) for _, run in table.iterrows()])


def _predicted(run: pd.Series) -> float:
    plain, lai = products_by_widths(_widths(run))
    return lai / plain


def _widths(run: pd.Series) -> tuple[int, ...]:
    return (int(run["inputs"]), *[int(run["width"])] * int(run["depth"]), int(run["outputs"]))


def beside(folder: Path) -> str:
    """The other parts of the benchmark: other losses, α = 1 %, the networks of the experiments."""
    table = pd.read_csv(folder / "cost.csv").query("part not in ('loss alone', 'grid', 'where') and measure == 'time'")
    rows = []
    for _, run in table.iterrows():
        of = run["network"] if isinstance(run["network"], str) else _network(run)
        rows.append([str(run["way"]), of, *_with_spread(run)])
    return markdown(["what", "network", "ratio", "quartiles"], rows)


BARS = {"loss alone": 1.5, "width 256": 2.2, "width 32": 2.4, "memory": 2.5, "share": 1.02}
"""What this project aims at: the ratio of times of the loss alone, of networks of two widths and of α = 1 %, and of what is kept in memory."""


NAMES = {"relu": "ReLU", "tanh": "tanh", "silu": "SiLU"}


def where(folder: Path) -> str:
    """Where the ratio comes from, a column for each network: products, and what each stage adds to the one before it."""
    table = pd.read_csv(folder / "cost.csv").query("part == 'where' and measure == 'time'")
    columns: list[list[str]] = []
    for _, stages in table.groupby(["width", "activation", "inputs"], sort=False):
        own = {str(run["way"]): run for _, run in stages.iterrows()}
        slopes, *added = (own[way] for way in STAGES)
        all_of_it, first = added[-1], slopes
        few = f"{first['width']:.0f}, " + str(first["activation"])
        predicted, many = _predicted(first), first["inputs"] > 8
        steps = np.diff([run["ratio"] for run in (slopes, *added)])
        bar = BARS.get(f"width {first['width']:.0f}") if not many else None
        columns.append(
            [
                f"{few}, {first['inputs']:,.0f} inputs" if many else few,
                f"{1e6 * first['base']:,.0f}",
                f"{predicted:.2f}",
                _signed(slopes["ratio"] - predicted),
                *map(_signed, steps),
                f"**{all_of_it['ratio']:.2f}**",
                f"{all_of_it['low']:.2f} to {all_of_it['high']:.2f}",
                f"{all_of_it['rounds']:.0f}",
                "–" if bar is None else f"{bar:.1f}",
                f"{all_of_it['system']:.2f}",
                f"{own[WEIGHTS_ONLY]['ratio']:.2f}",
            ]
        )
    heads = [
        "width, activation",
        "MSE step, µs",
        "products alone",
        "activations and calls for the slopes",
        *list(STAGES)[1:],
        "**Lai step**",
        "quartiles",
        "rounds",
        "aim",
        "of it in the operating system",
        "backward to the weights only",
    ]
    head, *rows = ([name, *cells] for name, *cells in zip(heads, *columns, strict=True))
    return markdown(head, rows)


def aims(folder: Path) -> str:
    """Every aim, with what was measured and where the time or the memory goes."""
    table = pd.read_csv(folder / "cost.csv")
    lines = []
    for width in (32, 256):
        own = table.query(f"part == 'where' and measure == 'time' and inputs == 8 and width == {width}")
        predicted = _predicted(own.iloc[0])
        slopes, formula, factor, whole = (own.loc[own["way"] == way, "ratio"].to_numpy(float) for way in STAGES)
        names = own.loc[own["way"] == list(STAGES)[-1], "activation"]
        ratios = dict(zip((NAMES[name] for name in names), whole.tolist(), strict=True))
        lines.append(
            f"**Time with {width} units, relative to an MSE step: {_against(ratios, BARS[f'width {width}'])}.** "
            f"Products alone predict {predicted:.2f}. Activations and calls for the slopes change this by {_between(slopes - predicted)}. "
            f"The factor adds {_between(factor - slopes)}, of which the formula with k² accounts for {_between(formula - slopes)}. The checks add {_between(whole - factor)}."
        )
    alone = table[table["part"] == "loss alone"].set_index("measure")
    time, passes = alone.loc["time"], alone.loc["passes"]
    lines.append(
        f"**Time of the loss alone, relative to its formula with k²: {_against({'': time['ratio']}, BARS['loss alone'])}.** Both were timed forward and backward on slopes of shape ({time['batch']:.0f}, {time['inputs']:.0f}), "
        f"with quartiles {time['low']:.2f} to {time['high']:.2f} in {time['rounds']:.0f} rounds. "
        f"The loss goes over the slopes {passes['ratio'] * passes['base']:.0f} times, the formula {passes['base']:.0f} times, which is {passes['ratio']:.2f} times as often."
    )
    share, one = (
        table[table["part"] == "share"].iloc[0],
        _grid(folder).iloc[0],
    )  # both of the network that all others vary
    lines.append(
        f"**Time at α = 1 %, relative to MSE: {_against({'': share['ratio']}, BARS['share'])}.** The quartiles are {share['low']:.3f} to {share['high']:.3f}. "
        f"By the time of a single Lai step it would be {1 + (one['ratio'] - 1) / 100:.3f}."
    )
    kept = {NAMES[name]: many / few for name, (few, many) in reversed(KEPT.items())}
    lines.append(
        f"**Memory for the backward passes, relative to an MSE step: {_against(kept, BARS['memory'])}.** It goes into the tensors that each layer keeps."
    )
    return "\n".join(f"- {line}" for line in lines)


def _against(ratios: dict[str, Any], aim: float) -> str:
    """Ratios by activation, or one of no name, and which of them meet an aim."""
    digits = max(2, len(f"{aim}") - 1)
    told = ", ".join(f"{ratio:.{digits}f}{' with ' * bool(name)}{name}" for name, ratio in ratios.items())
    met = [name for name, ratio in ratios.items() if round(ratio, digits) <= aim]
    verdict = "missed" if not met else "met" if len(met) == len(ratios) else f"met with {' and '.join(met)} only"
    return f"{told}; the aim of {aim} is {verdict}"


def _signed(part: float) -> str:
    return f"{round(part, 2) + 0.0:+.2f}".replace("-", "−")


def _between(parts: np.ndarray) -> str:
    """The least and the largest, once if they are printed alike."""
    ends = dict.fromkeys(f"{round(end, 2) + 0.0:.2f}".replace("-", "−") for end in (parts.min(), parts.max()))
    return " to ".join(ends)


def inputs(folder: Path) -> str:
    """Why many inputs cost more, in a few sentences."""
    grid = _grid(folder)
    run = grid.sort_values("inputs").iloc[-1]
    few = grid[(grid["inputs"] == 8)]
    table = pd.read_csv(folder / "cost.csv").query("part == 'where' and measure == 'time'")
    own = table[table["inputs"] == run["inputs"]].set_index("way")
    slopes, formula, factor, whole = (own.loc[way, "ratio"] for way in STAGES)
    widths = _widths(run)
    first = widths[0] * widths[1] / sum(a * b for a, b in pairwise(widths))
    less, (low, high, rounds) = own.loc[WEIGHTS_ONLY], own.loc[list(STAGES)[-1], ["low", "high", "rounds"]]
    plain, lai = products_by_widths(widths, data=False)
    return (
        f"**Matrix products alone predict ratios of {few['predicted'].min():.2f} to {few['predicted'].max():.2f} with 8 inputs, and {run['predicted']:.2f} with {run['inputs']:,.0f}**, where "
        f"{first:.0%} of them are in the first layer. The measured ratios are {few['ratio'].min():.2f} to {few['ratio'].max():.2f}, and {run['ratio']:.2f}.\n\n"
        f"With {run['inputs']:,.0f} inputs most of the difference goes into the factor, which is computed for each of the {run['batch'] * run['inputs'] / 1e6:.1f} million slopes in a batch. "
        f"When the same step was measured in stages, the factor added {factor - slopes:.2f} of {whole:.2f} (quartiles {low:.2f} to {high:.2f}, {rounds:.0f} rounds). Such large tensors get new memory in every step, and {own.loc[list(STAGES)[-1], 'system']:.2f} of the {whole:.2f} is what the operating system takes to hand it out.\n\n"
        f"The sixth product of the first layer is not needed. `backward` computes a gradient with respect to the data, because the slopes can only be taken if the data require a gradient. "
        f"`loss.backward(inputs=list(model.parameters()))` leaves it out, as {{func}}`lai.fit` does. Products then predict {lai / plain:.2f}, and {less['ratio']:.2f} was measured in place of {whole:.2f}."
    )


def kept(folder: Path) -> str:
    """What a step keeps: by the formula, as counted, and in the peak of a process."""
    table = pd.read_csv(folder / "cost.csv")
    saved = table[(table["part"] == "where") & (table["measure"] == "saved")]
    peaks = table[table["measure"] == "memory"]
    rows = []
    for _, run in saved.iterrows():
        activation, (width, depth, batch) = str(run["activation"]), (int(run[name]) for name in NETWORK[1:4])
        few, many = KEPT[activation]
        tensor = 4 * width * batch / 1e6
        peak = peaks[(peaks[NETWORK[:4]] == [activation, width, depth, batch]).all(axis=1)].iloc[0]
        rows.append(
            [
                f"{activation}, {width} × {depth}, {batch}",
                f"{few} and {many}",
                f"{few * depth * tensor:.0f} and {many * depth * tensor:.0f}",
                f"{run['base']:.0f} and {run['base'] * run['ratio']:.0f}",
                f"{run['ratio']:.2f}",
                f"{peak['base']:.0f} and {peak['base'] * peak['ratio']:.0f}",
                f"{peak['ratio']:.2f}",
                f"{peak['low']:.2f} to {peak['high']:.2f}",
            ]
        )
    heads = [
        "activation, width × depth, batch",
        "tensors of a layer",
        "all layers, MB",
        "counted, MB",
        "ratio",
        "process, MB",
        "ratio of the process",
        "quartiles",
    ]
    return markdown(heads, rows)


def memory(folder: Path) -> str:
    """Why memory grows with depth, in two sentences."""
    table = pd.read_csv(folder / "cost.csv").query("measure == 'memory' and activation == 'silu' and width == 256")
    table = table.sort_values("depth")
    shallow, deep = table.iloc[0], table.iloc[-1]
    ratios = [f"{many / few:.0f} with {NAMES[name]}" for name, (few, many) in KEPT.items()]
    return (
        f"So the ratio of what the two steps keep is the same at every depth: {', '.join(ratios)}. A process holds other things too, "
        f"and their share falls with depth. With SiLU the ratio of whole processes is therefore {shallow['ratio']:.1f} with {shallow['depth']:.0f} layers and {deep['ratio']:.1f} with {deep['depth']:.0f}, and approaches {KEPT['silu'][1] / KEPT['silu'][0]:.0f}."
    )


def _network(run: pd.Series) -> str:
    outputs = f", {run['outputs']:.0f} outputs" if run["outputs"] > 1 else ""
    activation = "" if run["activation"] == "silu" else f", {run['activation']}"
    return f"width {run['width']:.0f}, depth {run['depth']:.0f}, batch {run['batch']:.0f}{outputs}{activation}"


def _with_spread(run: pd.Series) -> list[str]:
    form = ".3f" if "of the batches" in run["way"] else ".2f"
    return [f"{run['ratio']:{form}}", f"{run['low']:{form}} to {run['high']:{form}}, {run['rounds']:.0f} rounds"]


def benchmark(folder: Path) -> str:
    """What a Lai step costs, in two sentences."""
    table = pd.read_csv(folder / "cost.csv").query("part == 'grid' and measure == 'time'")
    few = table[table["inputs"] == 8]
    wide, narrow = few[few["width"] >= 256]["ratio"], few[few["width"] < 256]["ratio"]
    return (
        f"**A Lai step takes {table['ratio'].median():.1f} times as long as an MSE step** (the median of {len(table)} networks). With 8 "
        f"inputs it takes {wide.min():.1f} to {wide.max():.1f} times as long where layers have 256 units or more, and "
        f"{narrow.min():.1f} to {narrow.max():.1f} times where they have fewer; with more inputs up to {table['ratio'].max():.1f} times."
    )


def measured(folder: Path) -> str:
    """How the costs were measured, and where."""
    about = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items() if name != "lai")
    return f"Measured by `{about['command']}`: {about['setting']}. {versions}; {about['hardware']}; {about['wall_seconds']} s."


BLOCKS: dict[str, Callable[[Path], str]] = {
    f.__name__: f
    for f in (
        results,
        arms,
        second,
        costs,
        environments,
        tolerances,
        short,
        advice,
        through,
        answer,
        sparse,
        forms,
        decisions,
        step,
        beside,
        where,
        aims,
        inputs,
        kept,
        memory,
        benchmark,
        measured,
    )
}


def linked(name: str) -> str:
    """A table's name as a link to its chapter, if the book has one."""
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for stem in (name, CHAPTERS.get(name, name)):
        if found := re.search(rf"notebooks/(\d+_experiments_{stem})\n", contents):
            return f"{{doc}}`{name} <../notebooks/{found[1]}>`"
    return name


CHAPTERS = {"lists": "sensitivity"}
"""Where a table is shown that has no chapter of its own."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The names and contents of what is computed in a page."""
    for match in re.finditer(r"<!-- (\w+) -->\n+(.*?)\n*<!-- end \1 -->", text, re.DOTALL):
        yield match[1], match[2]


def rewritten(text: str, folder: Path) -> str:
    """The page with its tables computed anew."""
    for name, _ in blocks(text):
        new = f"<!-- {name} -->\n\n{BLOCKS[name](folder)}\n\n<!-- end {name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- end {name} -->", lambda _, new=new: new, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.report", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="fail if the page is not what the results say")
    what.add_argument("--write", action="store_true", help="write what the results say")
    parser.add_argument("--page", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS, help="another folder of results")
    options = parser.parse_args(arguments)
    pages = PAGES if options.page is None else (options.page,)
    return max([_one(page, options) for page in pages])


def _one(page: Path, options: argparse.Namespace) -> int:
    before = page.read_text(encoding="utf-8")
    after = rewritten(before, options.results)
    if options.write and after != before:
        replace_texts({page: after})
    differ = [name for (name, old), (_, new) in zip(blocks(before), blocks(after), strict=True) if old != new]
    print(f"{page.name}: {', '.join(differ) or 'nothing'} {'was' if options.write else 'is'} out of date")
    return 1 if options.check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
