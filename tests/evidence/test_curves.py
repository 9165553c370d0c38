"""Many one-dimensional regressions at once: the same as one at a time, and refusals."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import lai
from evidence import figures
from evidence.studies.curves import curves, fit_curves

X = torch.linspace(-1, 1, 12, dtype=torch.float64)
Y = torch.stack([torch.sin(3 * X), X**2 - 0.3, 1.5 * X])


def networks(n: int, activation: str = "silu") -> list[lai.MLP]:
    return [lai.MLP(1, (5, 4), activation=activation, standardize=X[:, None], seed=s).double() for s in range(n)]


@pytest.mark.parametrize("base", ["mse", "mae"])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_together_is_as_alone(base: str, activation: str) -> None:
    """Against the plain loop with lai.lai_loss, one network after the other."""
    lams = [None, 0.1, 4.0]
    sweep = fit_curves(networks(3, activation), X, Y, lams, base=base, steps=30)
    value, slope = curves(sweep, X)
    for i, (net, lam) in enumerate(zip(networks(3, activation), lams, strict=True)):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(30):
            x = X[:, None].clone().requires_grad_()
            out = net(x)
            k = lai.input_gradient(out, x)
            if lam is None:
                loss = (out - Y[i]).square().mean() if base == "mse" else (out - Y[i]).abs().mean()
            else:
                loss = lai.lai_loss(out, Y[i], k, lam=lam, base=base)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        out, k = lai.value_and_input_gradient(net, X[:, None], create_graph=False)
        torch.testing.assert_close(value[i], out, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(slope[i], k[:, 0], rtol=1e-8, atol=1e-9)


def test_a_network_does_not_feel_its_neighbours() -> None:
    both = fit_curves(networks(2), X, Y[:2], [0.1, 2.0], steps=20)
    other = fit_curves(networks(2), X, torch.stack([Y[0], -5 * Y[1]]), [0.1, None], steps=20)
    torch.testing.assert_close(curves(both, X)[0][0], curves(other, X)[0][0], rtol=1e-9, atol=1e-10)


def test_all_plain_needs_no_slopes_and_is_the_same() -> None:
    plain = fit_curves(networks(2), X, Y[:2], [None, None], steps=20)
    mixed = fit_curves(networks(2), X, Y[:2], [None, 0.5], steps=20)
    torch.testing.assert_close(curves(plain, X)[0][0], curves(mixed, X)[0][0], rtol=1e-9, atol=1e-10)


def test_slopes_are_those_of_finite_differences() -> None:
    sweep = fit_curves(networks(2), X, Y[0], [None, None], steps=5)
    slope = curves(sweep, X)[1]
    h = 1e-6
    by_step = (curves(sweep, X + h)[0] - curves(sweep, X - h)[0]) / (2 * h)
    torch.testing.assert_close(slope, by_step, rtol=1e-6, atol=1e-8)
    assert not slope.requires_grad


def test_curves_of_several_inputs_and_of_modules() -> None:
    """Of planes, whose slopes are their weights."""
    planes = [nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double() for _ in range(3)]
    points = torch.stack([X, X**2], dim=1)
    value, slope = curves(planes, points)
    for plane, height, k in zip(planes, value, slope, strict=True):
        torch.testing.assert_close(height, plane(points).detach())
        torch.testing.assert_close(k, plane[0].weight.detach().expand(len(X), 2))
    with pytest.raises(ValueError, match="x has shape"):
        curves(planes, points[None])


def test_models_stay_as_they_are() -> None:
    nets = networks(2)
    before = [p.clone() for net in nets for p in net.parameters()]
    trained = fit_curves(nets, X, Y[0], [None, 0.1], steps=3).models()
    assert all(torch.equal(p, q) for p, q in zip(before, (p for n in nets for p in n.parameters()), strict=True))
    assert not torch.equal(next(trained[0].parameters()), before[0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lams": [None]}, "lams has 1 entries"),
        ({"lams": [None, -1.0]}, "lams = -1.0"),
        ({"y": Y}, "y has shape"),
        ({"y": Y[0, :5]}, r"y \(2, 5\)"),
        ({"x": X[None, None]}, "x has shape"),
        ({"base": "huber"}, "base = 'huber'"),
        ({"steps": -1}, "steps = -1"),
    ],
)
def test_what_is_refused(change: dict, message: str) -> None:
    arguments = {"models": networks(2), "x": X, "y": Y[0], "lams": [None, 0.1], "steps": 2, **change}
    with pytest.raises(ValueError, match=message):
        fit_curves(**arguments)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="step 0"):
        fit_curves(networks(1), X, torch.full_like(X, float("nan")), [0.1], steps=2)


def test_figures_draw_what_they_are_given() -> None:
    fig, (one, two, three) = plt.subplots(1, 3)
    figures.fitted(one, (X, Y[0]), X, Y[0])
    figures.tangents(one, X[:2], Y[0, :2], torch.tensor([1.0, -2.0]), reach=0.5)
    ends = one.lines[3].get_xydata()
    assert np.diff(ends[:, 1]) / np.diff(ends[:, 0]) == pytest.approx(-2)
    assert np.hypot(*np.diff(ends, axis=0)[0]) == pytest.approx(1.0)
    other, axes = plt.subplots(1, 2)
    figures.fitted_panels(axes, (X, Y[0]), X, {"a": (Y[0], Y[1]), "b": (Y[1], Y[2])}, every=6)
    ends = axes[1].lines[2].get_xydata()  # the first tangent, at the grid's fourth point
    assert np.diff(ends[:, 1]) / np.diff(ends[:, 0]) == pytest.approx(Y[2, 3].item())
    assert [ax.texts[0].get_text() for ax in axes] == ["a", "b"]
    plt.close(other)
    start = torch.arange(12.0).reshape(2, 6)
    figures.change_by_slope(two, start, {"a": torch.where(start < 6, 1.0, -1.0)}, {"a": 5.5}, bins=2)
    (bars,) = two.containers
    assert bars.lines[0].get_ydata().tolist() == [1, -1]
    figures.switching(three, [0, 1, 2], {"u": [0, 1, 2]}, 1.0, {"u": 0.0})
    assert set(three.lines[1].get_ydata()) == {1.0}
    plt.close(fig)
