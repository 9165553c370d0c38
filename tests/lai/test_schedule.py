"""The schedule: shares, carry-over, independence of everything but seed and epoch."""

from fractions import Fraction

import checks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lai


@given(
    alpha=st.floats(0, 1),
    n=st.integers(1, 200),
    pretrain=st.integers(0, 5),
    epochs=st.integers(1, 40),
)
@settings(max_examples=40, deadline=None)
def test_share_is_exact_in_the_long_run(alpha: float, n: int, pretrain: int, epochs: int) -> None:
    schedule = lai.LaiSchedule(alpha, pretrain_epochs=pretrain)
    counts = [int(schedule.batches(e, n).sum()) for e in range(pretrain + epochs)]
    assert sum(counts[:pretrain]) == 0
    assert abs(sum(counts) - Fraction(str(alpha)) * n * epochs) < 1
    assert max(counts[pretrain:]) - min(counts[pretrain:]) <= 1


@given(
    alpha=st.floats(0, 1),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    epochs=st.integers(1, 20),
    sampling=st.sampled_from(["batches", "points"]),
)
@settings(max_examples=40, deadline=None)
def test_the_share_of_a_free_draw_is_exact_over_its_epochs(
    alpha: float, sizes: list, epochs: int, sampling: str
) -> None:
    schedule = lai.LaiSchedule(alpha, pretrain_epochs=1, placement="free", epochs=epochs, sampling=sampling)  # type: ignore[arg-type]
    for first in (1, 1 + epochs):
        taken = 0
        for epoch in range(first, first + epochs):
            if sampling == "batches":
                taken += int(schedule.batches(epoch, len(sizes)).sum())
            else:
                picks = schedule.points(epoch, sizes)
                assert all(len(p.unique()) == len(p) for p in picks)
                assert all(len(p) == 0 or int(p.max()) < size for p, size in zip(picks, sizes, strict=True))
                taken += sum(map(len, picks))
        places = (len(sizes) if sampling == "batches" else sum(sizes)) * epochs
        assert abs(taken - Fraction(str(alpha)) * places) < 1


def test_a_free_draw_has_the_spread_of_drawing_without_replacement() -> None:
    counts = torch.tensor(
        [int(lai.LaiSchedule(0.1, placement="free", epochs=10, seed=seed).batches(3, 50).sum()) for seed in range(500)]
    ).double()
    variance = 50 * 0.1 * 0.9 * (500 - 50) / (500 - 1)  # hypergeometric: 50 of 500 places, 50 drawn
    assert abs(counts.mean() - 5) < 4 * (variance / 500) ** 0.5
    assert abs(counts.var() / variance - 1) < 4 * (2 / 500) ** 0.5


def test_free_draws_share_one_carry() -> None:
    """Half a batch for each draw of two epochs: after any number of draws the share is kept to less than a batch."""
    schedule = lai.LaiSchedule(0.025, placement="free", epochs=2)
    taken = torch.tensor([int(schedule.batches(epoch, 10).sum()) for epoch in range(40)])
    after = taken.reshape(20, 2).sum(1).cumsum(0)
    assert (after - 0.5 * torch.arange(1, 21)).abs().max() < 1


def test_no_batch_is_special_for_all_seeds() -> None:
    """At α = 0.01 and 58 batches: the first of a hundred batches to come is as likely in every place."""
    plans = [torch.cat([lai.LaiSchedule(0.01, seed=seed).batches(e, 50) for e in range(2)]) for seed in range(1000)]
    chosen = torch.stack(plans)
    assert (chosen.sum(1) == 1).all()
    counts = torch.bincount(chosen.int().argmax(1), minlength=100).double()
    assert ((counts - 10) ** 2 / 10).sum() < 165  # 99 degrees of freedom: passed once in 25,000 by chance


def test_the_papers_setting() -> None:
    schedule = lai.LaiSchedule(0.01, pretrain_epochs=100)
    counts = [int(schedule.batches(e, 58).sum()) for e in range(200)]
    assert sum(counts[:100]) == 0 and sum(counts[100:]) == 58  # whatever the start: 58 is a whole number


@given(
    alpha=st.floats(0, 1),
    sizes=st.lists(st.integers(1, 600), min_size=1, max_size=8),
    pretrain=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_points_are_distinct_in_range_and_of_the_right_number(alpha: float, sizes: list[int], pretrain: int) -> None:
    schedule = lai.LaiSchedule(alpha, sampling="points", pretrain_epochs=pretrain)
    assert all(len(picks) == 0 for epoch in range(pretrain) for picks in schedule.points(epoch, sizes))
    total = 0
    for epoch in range(pretrain, pretrain + 3):
        plan = schedule.points(epoch, sizes)
        for picks, size in zip(plan, sizes, strict=True):
            assert picks.unique().numel() == picks.numel() <= size
            assert picks.numel() == 0 or 0 <= int(picks.min()) <= int(picks.max()) < size
            total += picks.numel()
    assert abs(total - Fraction(str(alpha)) * 3 * sum(sizes)) < 1


def test_every_batch_is_chosen_equally_often() -> None:
    schedule = lai.LaiSchedule(0.1)
    counts = torch.stack([schedule.batches(e, 20) for e in range(500)]).sum(0).double()
    expected = 500 * 0.1
    chi2 = ((counts - expected) ** 2 / (expected * 0.9)).sum().item()
    assert chi2 < 50  # 19 degrees of freedom: 50 is passed once in 10,000 by chance


def test_depends_on_seed_and_epoch_alone() -> None:
    one, same, other = lai.LaiSchedule(0.3, seed=1), lai.LaiSchedule(0.3, seed=1), lai.LaiSchedule(0.3, seed=2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    later = one.batches(7, 50)
    torch.manual_seed(99)
    for epoch in range(5):
        one.batches(epoch, 50)
    assert torch.equal(one.batches(7, 50), later) and torch.equal(same.batches(7, 50), later)
    assert not torch.equal(other.batches(7, 50), later)
    assert not torch.equal(one.batches(8, 50), later)
    torch.manual_seed(0)
    same.batches(0, 50)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_means_the_same_plan_for_ever() -> None:
    """The committed tables were trained with these draws."""
    assert [int(lai.LaiSchedule(0.25, seed=seed).batches(0, 2).sum()) for seed in range(16)] == [
        0,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
        0,
        1,
        1,
        1,
    ]
    plan = lai.LaiSchedule(0.2, seed=1, sampling="points").points(0, [12, 7])
    assert [picks.tolist() for picks in plan] == [[0, 1, 3], [5]]
    free = lai.LaiSchedule(0.25, placement="free", epochs=4, seed=1)
    drawn = [free.batches(epoch, 8).nonzero().flatten().tolist() for epoch in range(4)]
    assert drawn == [[0, 7], [1, 3, 7], [0], [4, 6]]


@pytest.mark.parametrize("placement", [{}, {"placement": "free", "epochs": 2}])
def test_what_is_printed_makes_the_same_plan(placement: dict) -> None:
    assert repr(lai.LaiSchedule(0.5)) == "LaiSchedule(alpha=0.5, pretrain_epochs=0, sampling='batches', seed=0)"
    schedule = lai.LaiSchedule(0.3, pretrain_epochs=1, sampling="points", seed=5, **placement)
    again = eval(repr(schedule), {"LaiSchedule": lai.LaiSchedule})
    assert again.sampling == "points"
    for epoch in range(3):
        assert all(map(torch.equal, again.points(epoch, [40, 7]), schedule.points(epoch, [40, 7])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.1, "placement": "free"}, "epochs = None"),
        ({"alpha": 0.1, "placement": "free", "epochs": 0}, "epochs = 0"),
        ({"alpha": 0.1, "epochs": 3}, "epochs = 3"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    checks.refused(ValueError, message, lai.LaiSchedule, **arguments)
