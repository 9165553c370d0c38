"""The page of recipes for training loops: every block runs, in order, and leaves what it promises."""

import re
from pathlib import Path

import pytest
import torch

import lai

PAGE = Path(__file__).parents[2] / "book" / "in_your_loop.md"


@pytest.fixture(scope="module")
def names() -> dict:
    found: dict = {}
    with torch.random.fork_rng():
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_every_block_runs_and_losses_are_finite(names: dict) -> None:
    assert torch.isfinite(names["loss"]) and names["history"]["epoch"] == [0, 1, 2]
    assert names["choice"].lam in (1.0, 0.1, 0.01) and names["lam_inside"].shape == (3,)
    assert names["k_two"].shape == (256, 2, 3) and names["regressor"].predict(names["x"].numpy()).shape == (256,)


def test_training_stops_when_the_validation_error_has_not_fallen_for_two_epochs(names: dict) -> None:
    errors = names["stopped"]["val_rmse"]
    since = [min(errors[: i + 1]) == min(errors[: max(i - 1, 1)]) for i in range(2, len(errors))]
    assert 3 <= len(errors) < 20 and since[-1] and not any(since[:-1])


def test_the_units_of_the_target_and_the_padding(names: dict) -> None:
    x, y, mask = names["x"], names["y"], names["mask"]
    inner, raw = names["raw"][0], names["raw"]
    torch.testing.assert_close(raw(x), inner(x) * y.std(correction=0) + y.mean())
    y_hat, k = lai.value_and_input_gradient(names["model"], x * mask)
    rows = [names["criterion"](y_hat[[i]], y[[i]], k[[i], : mask[i].sum()]) for i in range(len(x))]
    torch.testing.assert_close(names["criterion"](y_hat, y, k, mask=mask), torch.stack(rows).mean())


def test_what_the_page_says_of_batchnorm_is_so(names: dict) -> None:
    model, x = names["normed"], names["x"]
    torch.testing.assert_close(model.eval()(x), model.train()(x), atol=1e-5, rtol=1e-4)


def test_accumulated_gradients_are_those_of_the_whole_batch(names: dict) -> None:
    x, y, criterion = (names[name] for name in ("x", "y", "criterion"))
    grads = []
    for parts in (1, 4):
        model = lai.MLP(3, standardize=x, seed=3)
        for xb, yb in zip(x.chunk(parts), y.chunk(parts), strict=True):
            y_hat, k = lai.value_and_input_gradient(model, xb)
            (criterion(y_hat, yb, k) / parts).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_slopes_of_a_class_and_of_sequences(names: dict) -> None:
    """Of the log-likelihood by its own formula, and with the shape of the sequences."""
    x, labels, classifier = names["x"], names["labels"], names["classifier"]
    hot = torch.nn.functional.one_hot(labels, 4)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: classifier(row).log_softmax(0)))(x)
    torch.testing.assert_close(names["k_class"], -(hot[:, :, None] * jacobian).sum(1), rtol=1e-4, atol=1e-6)
    assert names["k_seq"].shape == names["sequences"].shape
    assert all(torch.isfinite(p.grad).all() for p in classifier.parameters())


def test_a_random_direction_has_the_mean_squares_of_the_outputs(names: dict) -> None:
    """Exactly so on average over a random orthonormal basis, and therefore in expectation over one unit vector."""
    many, targets, x = names["many"], names["targets"][:4], names["x"][:4]
    basis = torch.linalg.qr(torch.randn(500, 500)).Q
    y_hat, k = lai.value_and_input_gradient(many, x)
    along, k_along = lai.value_and_input_gradient(lambda batch: many(batch) @ basis, x)
    torch.testing.assert_close(k_along.square().mean(1), k.square().mean(1), rtol=1e-4, atol=1e-6)
    errors, errors_along = y_hat - targets, along - targets @ basis
    torch.testing.assert_close(errors_along.square().mean(1), errors.square().mean(1), rtol=1e-4, atol=1e-6)
