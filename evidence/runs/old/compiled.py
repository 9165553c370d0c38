"""The experiments' training on a processor: one network's epochs as one compiled loop.

What :mod:`evidence.runs.old.stack` does with torch's operations, written out for networks of two hidden layers and compiled by numba.
A batch of such a network fits the processor's cache, and a loop over it needs neither torch's bookkeeping nor a pass
through memory for every operation. Tested against :func:`lai.fit`, which leaves all derivatives to autograd.

Layout, as in :mod:`evidence.runs.old.stack`: features come before samples, (n_features, B).
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from lai.factor import check_choice, check_lam
from lai.metrics import rmse
from lai.models import MLP, Standardize
from lai.schedule import LaiSchedule, check_count
from lai.training import batch_order

from .stack import Lane, Slope

BLOCK = 4
"""The products below work on so many rows at once, so the widths of the layers are multiples of it."""

SUMMED, TRUE = 0, 1
Sizes = tuple[int, int, int]
"""Features, filled up to a block, and the widths of the two layers."""
_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 0.5, 1, 2))

# Sums may be taken in any order, so that a loop can use the processor's vectors; NaN and infinity keep their meaning.
_loops = njit(fastmath={"contract", "reassoc", "nsz"}, forceinline=True, cache=True, error_model="numpy")
# Said and not left out: a function that says nothing would be compiled with what its first caller allows.
_exact = njit(fastmath={"contract"}, forceinline=True, cache=True, error_model="numpy")


@_loops
def _product(weight: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out += weight · x, for (m, k) and (k, B); m even, k a multiple of 4."""
    for i in range(0, weight.shape[0], 2):
        first, second = out[i], out[i + 1]
        for j in range(0, weight.shape[1], 4):
            x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
            a0, a1, a2, a3 = weight[i, j], weight[i, j + 1], weight[i, j + 2], weight[i, j + 3]
            b0, b1, b2, b3 = weight[i + 1, j], weight[i + 1, j + 1], weight[i + 1, j + 2], weight[i + 1, j + 3]
            for t in range(first.size):
                first[t] += a0 * x0[t] + a1 * x1[t] + a2 * x2[t] + a3 * x3[t]
                second[t] += b0 * x0[t] + b1 * x1[t] + b2 * x2[t] + b3 * x3[t]


@_loops
def _outer(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """out += left · rightᵀ, for (m, B) and (n, B); m even, n a multiple of 4."""
    for i in range(0, left.shape[0], 2):
        u, v = left[i], left[i + 1]
        for j in range(0, right.shape[0], 4):
            x0, x1, x2, x3 = right[j], right[j + 1], right[j + 2], right[j + 3]
            u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = _ZERO
            for t in range(u.size):
                u0 += u[t] * x0[t]
                u1 += u[t] * x1[t]
                u2 += u[t] * x2[t]
                u3 += u[t] * x3[t]
                v0 += v[t] * x0[t]
                v1 += v[t] * x1[t]
                v2 += v[t] * x2[t]
                v3 += v[t] * x3[t]
            out[i, j] += u0
            out[i, j + 1] += u1
            out[i, j + 2] += u2
            out[i, j + 3] += u3
            out[i + 1, j] += v0
            out[i + 1, j + 1] += v1
            out[i + 1, j + 2] += v2
            out[i + 1, j + 3] += v3


_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: added and taken away, it leaves a whole number
_C0, _C1, _C2, _C3, _C4, _C5 = (
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)
_LEAST, _MOST = np.float32(-87), np.float32(88)


@_exact
def _logistic(u: np.ndarray, whole: np.ndarray, bits: np.ndarray, out: np.ndarray) -> None:
    """out = 1 / (1 + exp(-u)); ``whole`` is the float32 view of the int32 array ``bits``, both of u's size.

    exp as in Cephes: 2^n · exp(r) with a polynomial for \\|r\\| <= ln(2) / 2. No sum here may be reordered.
    """
    for t in range(u.size):
        x = min(max(-u[t], _LEAST), _MOST)
        n = (x * _LOG2E + _ROUND) - _ROUND
        bits[t] = (np.int32(n) + np.int32(127)) << np.int32(23)
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
        out[t] = (p * r * r + r) + _ONE
    for t in range(u.size):
        out[t] = _ONE / (_ONE + out[t] * whole[t])


@_loops
def _activate(
    v: np.ndarray, smooth: bool, d: np.ndarray, second: np.ndarray, whole: np.ndarray, bits: np.ndarray
) -> None:
    """A row v becomes its activation; ``d`` gets the derivative, ``second`` (SiLU only) the second one."""
    if smooth:
        _logistic(v, whole, bits, second)
        for t in range(v.size):
            s = second[t]
            a = v[t] * s
            rest = s - a * s
            v[t] = a
            d[t] = rest + a
            second[t] = (rest + d[t]) * (_ONE - s)
    else:
        for t in range(v.size):
            d[t] = _ZERO if v[t] <= _ZERO else _ONE  # NaN stays NaN
            v[t] *= d[t]


@_loops
def _mean(x: np.ndarray) -> np.float32:
    total = _ZERO
    for t in range(x.size):
        total += x[t]
    return total / np.float32(x.size)


@_loops
def _mean_product(x: np.ndarray, y: np.ndarray) -> np.float32:
    total = _ZERO
    for t in range(x.size):
        total += x[t] * y[t]
    return total / np.float32(x.size)


@_loops
def _project(p: np.ndarray, u: np.ndarray) -> np.float32:
    """A row of evidence.runs.old.by_hand.project, in place: p - mean(p) - u · mean(p u). Returns mean(p u)."""
    level, along = _mean(p), _mean_product(p, u)
    for t in range(p.size):
        p[t] -= level + u[t] * along
    return along


class Weights(NamedTuple):
    """A network's parameters, or their gradients: views of one flat array. Without BatchNorm, gains and shifts idle."""

    w1: np.ndarray  # (n_1, n_features)
    b1: np.ndarray  # (n_1,)
    gain1: np.ndarray
    shift1: np.ndarray
    w2: np.ndarray  # (n_2, n_1)
    b2: np.ndarray
    gain2: np.ndarray
    shift2: np.ndarray
    w3: np.ndarray  # (n_2,)
    b3: np.ndarray  # (1,)


class Form(NamedTuple):
    """What kind of network it is, and what stands for k."""

    norm: bool
    smooth: bool  # SiLU, else ReLU
    slope: int
    momentum: np.float32
    eps: np.float32
    lam: np.ndarray  # (n_features,)
    scale: np.ndarray  # (n_features,): k in raw units is this times the slope by what the network is given


class Scratch(NamedTuple):
    """What a step writes down on its way. For layer l: v before the activation, a after it, d and s its derivatives."""

    x: np.ndarray  # (n_features, B), the batch
    y: np.ndarray  # (B,)
    output: np.ndarray  # (B,)
    k: np.ndarray  # (n_features, B); later the loss's gradient by it
    factor: np.ndarray  # (B,)
    by_output: np.ndarray  # (B,)
    a1: np.ndarray  # (n_1, B)
    d1: np.ndarray
    s1: np.ndarray
    p1: np.ndarray  # the output's gradient by a1
    q1: np.ndarray  # and by v1
    h1: np.ndarray  # the loss's gradient by q1 and p1, then by a1 and v1
    a2: np.ndarray  # (n_2, B)
    d2: np.ndarray
    s2: np.ndarray
    u2: np.ndarray  # normalised, before gain and shift
    q2: np.ndarray  # the output's gradient by v2, projected if the slope is the summed one
    h2: np.ndarray
    centred: np.ndarray  # (n_features, B)
    mean: np.ndarray  # (n_features,)
    cov: np.ndarray  # (n_features, n_features)
    mix: np.ndarray  # (n_features, n_features)
    by_mix: np.ndarray
    total1: np.ndarray  # (n_1,)
    along1: np.ndarray
    inverse1: np.ndarray
    inverse2: np.ndarray  # (n_2,)
    along2: np.ndarray
    through: np.ndarray  # (n_1, n_features): w1 · cov
    unit: np.ndarray  # w1 / std
    scaled: np.ndarray  # w1 / std · gain
    products: np.ndarray
    by_scaled: np.ndarray
    by_unit: np.ndarray
    turned: np.ndarray  # (n_features, n_1)
    folded: np.ndarray  # (n_2, n_1): w2, with the second BatchNorm's factor
    by_folded: np.ndarray
    back: np.ndarray  # (n_1, n_2)
    running: np.ndarray  # (2, n_1 + n_2): means, variances
    whole: np.ndarray  # (B,) float32
    bits: np.ndarray  # the same memory as int32


@_loops
def _forward(w: Weights, form: Form, z: Scratch) -> None:
    """The outputs of a batch in training mode."""
    n_features, n = z.x.shape
    n_1, n_2 = z.a1.shape[0], z.a2.shape[0]
    unbias = np.float32(n) / np.float32(n - 1)
    if form.norm:  # as evidence.runs.old.by_hand.norm_of_data
        for j in range(n_features):
            z.mean[j] = _mean(z.x[j])
            for t in range(n):
                z.centred[j, t] = z.x[j, t] - z.mean[j]
        z.cov[:] = _ZERO
        _outer(z.centred, z.centred, z.cov)
        z.cov[:] /= np.float32(n)
        z.through[:] = _ZERO
        _product(w.w1, z.cov, z.through)
        for i in range(n_1):
            var = middle = _ZERO
            for j in range(n_features):
                var += z.through[i, j] * w.w1[i, j]
                middle += w.w1[i, j] * z.mean[j]
            z.running[0, i] += form.momentum * (middle + w.b1[i] - z.running[0, i])
            z.running[1, i] += form.momentum * (var * unbias - z.running[1, i])
            z.inverse1[i] = _ONE / np.sqrt(var + form.eps)
            for j in range(n_features):
                z.unit[i, j] = w.w1[i, j] * z.inverse1[i]
                z.scaled[i, j] = z.unit[i, j] * w.gain1[i]
            z.a1[i] = w.shift1[i]
        _product(z.scaled, z.centred, z.a1)
    else:
        for i in range(n_1):
            z.a1[i] = w.b1[i]
        _product(w.w1, z.x, z.a1)
    for i in range(n_1):
        _activate(z.a1[i], form.smooth, z.d1[i], z.s1[i], z.whole, z.bits)
    for i in range(n_2):
        z.a2[i] = _ZERO if form.norm else w.b2[i]
    _product(w.w2, z.a1, z.a2)
    z.output[:] = w.b3[0]
    for i in range(n_2):
        v = z.a2[i]
        if form.norm:
            level = _mean(v)
            for t in range(n):
                v[t] -= level
            var = _mean_product(v, v)
            at = n_1 + i
            z.running[0, at] += form.momentum * (level + w.b2[i] - z.running[0, at])
            z.running[1, at] += form.momentum * (var * unbias - z.running[1, at])
            z.inverse2[i] = inverse = _ONE / np.sqrt(var + form.eps)
            u, gain, shift = z.u2[i], w.gain2[i], w.shift2[i]
            for t in range(n):
                u[t] = v[t] * inverse
                v[t] = u[t] * gain + shift
        _activate(v, form.smooth, z.d2[i], z.s2[i], z.whole, z.bits)
        w3 = w.w3[i]
        for t in range(n):
            z.output[t] += w3 * v[t]


@_loops
def _slopes(w: Weights, form: Form, z: Scratch) -> None:
    """z.k, by the chain rule, from what _forward left."""
    n_features, n = z.x.shape
    n_1, n_2 = z.a1.shape[0], z.a2.shape[0]
    summed = form.norm and form.slope == SUMMED
    for i in range(n_2):
        q, d, w3 = z.q2[i], z.d2[i], w.w3[i]
        for t in range(n):
            q[t] = w3 * d[t]
        if summed:
            z.along2[i] = _project(q, z.u2[i])
        factor = w.gain2[i] * z.inverse2[i] if form.norm else _ONE
        for j in range(n_1):
            z.folded[i, j] = z.back[j, i] = w.w2[i, j] * factor
    z.p1[:] = _ZERO
    _product(z.back, z.q2, z.p1)
    for i in range(n_1):
        p, q, d = z.p1[i], z.q1[i], z.d1[i]
        for t in range(n):
            q[t] = p[t] * d[t]
    first = z.scaled if form.norm else w.w1
    for i in range(n_1):
        for j in range(n_features):
            z.turned[j, i] = first[i, j]
    z.k[:] = _ZERO
    if summed:  # as evidence.runs.old.by_hand.project_to_data
        size = np.float32(n)
        z.products[:] = _ZERO
        _outer(z.q1, z.centred, z.products)
        for j in range(n_features):
            z.mean[j] = _ZERO
            z.mix[j] = _ZERO
        for i in range(n_1):
            z.total1[i] = _mean(z.q1[i]) * size
            along = _ZERO
            for j in range(n_features):
                along += z.products[i, j] * z.unit[i, j]
            z.along1[i] = along = along / size
            for j in range(n_features):
                z.mean[j] += z.scaled[i, j] * (z.total1[i] / size)
                for m in range(n_features):
                    z.mix[j, m] -= z.scaled[i, j] * along * z.unit[i, m]
        for j in range(n_features):
            z.k[j] = -z.mean[j]
        _product(z.mix, z.centred, z.k)
    _product(z.turned, z.q1, z.k)


@_loops
def _lai(form: Form, z: Scratch) -> None:
    """The factor of the L2 Lai MSE from z.k, and then in z.k the loss's gradient by k; as evidence.runs.old.by_hand.lai_norm."""
    n, used = z.output.size, form.lam.size
    size = np.float32(n)
    z.factor[:] = _ZERO
    for j in range(used):
        lam, scale, k = form.lam[j], form.scale[j], z.k[j]
        low = min(lam, _ONE)
        for t in range(n):
            slope = k[t] * scale
            square = slope * slope
            g = max(square, lam) / ((_ONE + square) * low)
            z.factor[t] += g * g
    for t in range(n):
        z.factor[t] = np.sqrt(z.factor[t])
        error = z.output[t] - z.y[t]
        z.by_output[t] = _TWO * error * z.factor[t] / size
        z.factor[t] = error * error / (size * z.factor[t])  # the loss's gradient by the norm, over the norm
    for j in range(used):
        lam, scale, k = form.lam[j], form.scale[j], z.k[j]
        low = min(lam, _ONE)
        steep, flat = _TWO / low, -_TWO * lam / low
        tie = _HALF * (steep + flat)
        for t in range(n):
            slope = k[t] * scale
            square = slope * slope
            cos = _ONE / (_ONE + square)
            g = max(square, lam) * cos / low
            rise = steep if square > lam else flat if square < lam else tie
            k[t] = rise * slope * cos * cos * g * z.factor[t] * scale
    for j in range(used, z.k.shape[0]):
        z.k[j] = _ZERO


@_loops
def _slopes_back(w: Weights, g: Weights, form: Form, z: Scratch) -> None:
    """From the loss's gradient by k, in z.k, to that by w and, of SiLU, by v: in s1 and s2, which hold d's derivative."""
    n_features, n = z.x.shape
    n_1, n_2 = z.a1.shape[0], z.a2.shape[0]
    size = np.float32(n)
    summed = form.norm and form.slope == SUMMED
    first = z.scaled if form.norm else w.w1
    by_first = z.by_scaled if form.norm else g.w1
    z.h1[:] = _ZERO
    if summed:
        for j in range(n_features):
            z.mean[j] = -_mean(z.k[j])  # by the level, over n
        z.by_mix[:] = _ZERO
        _outer(z.k, z.centred, z.by_mix)
        for i in range(n_1):
            along = z.along1[i]
            by_along = by_total = _ZERO
            for j in range(n_features):
                by_n = _ZERO
                for m in range(n_features):
                    by_n -= z.scaled[i, m] * z.by_mix[m, j]
                    z.by_scaled[i, j] -= along * z.unit[i, m] * z.by_mix[j, m]
                by_along += by_n * z.unit[i, j]
                z.by_unit[i, j] += by_n * along
                by_total += z.scaled[i, j] * z.mean[j]
                z.by_scaled[i, j] += z.mean[j] * z.total1[i]
            by_along /= size
            for j in range(n_features):
                z.by_unit[i, j] += by_along * z.products[i, j]
                z.products[i, j] = by_along * z.unit[i, j]
            z.h1[i] = by_total
        _product(z.products, z.centred, z.h1)
    _product(first, z.k, z.h1)
    _outer(z.q1, z.k, by_first)
    for i in range(n_1):
        h, p, d, s = z.h1[i], z.p1[i], z.d1[i], z.s1[i]
        if form.smooth:
            for t in range(n):
                s[t] *= h[t] * p[t]
                h[t] *= d[t]
        else:
            for t in range(n):
                h[t] *= d[t]
    z.by_folded[:] = _ZERO
    _outer(z.q2, z.h1, z.by_folded)
    z.h2[:] = _ZERO
    _product(z.folded, z.h1, z.h2)
    for i in range(n_2):
        h, q, u, d, s, w3 = z.h2[i], z.q2[i], z.u2[i], z.d2[i], z.s2[i], w.w3[i]
        if summed:
            mixed = _project(h, u)
            along = z.along2[i]
            for t in range(n):
                q[t] = -along * h[t] - mixed * q[t]  # the loss's gradient by u, as BatchNorm's backward pass leaves it
        g.w3[i] += _mean_product(h, d) * size
        if form.smooth:
            for t in range(n):
                s[t] *= h[t] * w3
        if form.norm:
            total = _ZERO
            for j in range(n_1):
                total += z.by_folded[i, j] * w.w2[i, j]
                g.w2[i, j] += z.by_folded[i, j] * w.gain2[i] * z.inverse2[i]
            g.gain2[i] += total * z.inverse2[i]
            z.along2[i] = total * w.gain2[i] * z.inverse2[i]
        else:
            for j in range(n_1):
                g.w2[i, j] += z.by_folded[i, j]


@_loops
def _back(w: Weights, g: Weights, form: Form, z: Scratch, lai: bool) -> None:
    """From the loss's gradient by the outputs, in z.by_output, to that by w; after _slopes_back where there was one."""
    n_features, n = z.x.shape
    n_1, n_2 = z.a1.shape[0], z.a2.shape[0]
    size = np.float32(n)
    by_output = z.by_output
    g.b3[0] += _mean(by_output) * size
    curved = lai and form.smooth
    summed = lai and form.norm and form.slope == SUMMED
    for i in range(n_2):
        h, a, d, s, u, q, w3 = z.h2[i], z.a2[i], z.d2[i], z.s2[i], z.u2[i], z.q2[i], w.w3[i]
        g.w3[i] += _mean_product(by_output, a) * size
        if curved:
            for t in range(n):
                h[t] = by_output[t] * w3 * d[t] + s[t]
        else:
            for t in range(n):
                h[t] = by_output[t] * w3 * d[t]
        level = _mean(h)
        if form.norm:
            g.shift2[i] += level * size
            by_gain = _mean_product(h, u)
            g.gain2[i] += by_gain * size
            along = w.gain2[i] * by_gain + (z.along2[i] / size if lai else _ZERO)
            gain, inverse = w.gain2[i], z.inverse2[i]
            for t in range(n):
                h[t] = ((h[t] - level) * gain - u[t] * along) * inverse
            if summed:
                for t in range(n):
                    h[t] += q[t] * inverse
        else:
            g.b2[i] += level * size
    _outer(z.h2, z.a1, g.w2)
    for i in range(n_2):
        for j in range(n_1):
            z.back[j, i] = w.w2[i, j]
    z.h1[:] = _ZERO
    _product(z.back, z.h2, z.h1)
    for i in range(n_1):
        h, d, s = z.h1[i], z.d1[i], z.s1[i]
        if curved:
            for t in range(n):
                h[t] = h[t] * d[t] + s[t]
        else:
            for t in range(n):
                h[t] *= d[t]
        total = _mean(h) * size
        if form.norm:
            g.shift1[i] += total
        else:
            g.b1[i] += total
    if not form.norm:
        _outer(z.h1, z.x, g.w1)
        return
    _outer(z.h1, z.centred, z.by_scaled)
    for i in range(
        n_1
    ):  # back through scaled = gain · unit, unit = w1 · inverse, inverse = (w1 · cov · w1ᵀ + eps)^-1/2
        inverse = z.inverse1[i]
        by_inverse = _ZERO
        for j in range(n_features):
            g.gain1[i] += z.by_scaled[i, j] * z.unit[i, j]
            z.by_unit[i, j] += z.by_scaled[i, j] * w.gain1[i]
            by_inverse += z.by_unit[i, j] * w.w1[i, j]
        by_var = -by_inverse * inverse * inverse * inverse  # twice
        for j in range(n_features):
            g.w1[i, j] += z.by_unit[i, j] * inverse + by_var * z.through[i, j]


@_exact
def _adam(theta: np.ndarray, grad: np.ndarray, first: np.ndarray, second: np.ndarray, step: int, lr: float) -> None:
    """torch.optim.Adam's step with its default settings, on flat arrays."""
    beta1, beta2 = 0.9, 0.999
    size = np.float32(lr / (1 - beta1**step))
    root = np.float32(math.sqrt(1 - beta2**step))
    rest1, keep2, rest2, eps = np.float32(1 - beta1), np.float32(beta2), np.float32(1 - beta2), np.float32(1e-8)
    for i in range(theta.size):
        first[i] += rest1 * (grad[i] - first[i])
        second[i] = keep2 * second[i] + rest2 * grad[i] * grad[i]
        theta[i] -= size * first[i] / (np.sqrt(second[i]) / root + eps)


@_loops
def _epoch(
    theta: np.ndarray,
    grad: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    step: int,
    lr: float,
    w: Weights,
    g: Weights,
    form: Form,
    z: Scratch,
    x: np.ndarray,
    y: np.ndarray,
    order: np.ndarray,
    takes: np.ndarray,
) -> int:
    """The batches of an epoch in their order; ``takes`` says which have the Lai loss. Returns Adam's count of steps."""
    n = z.y.size
    for b in range(takes.size):
        for t in range(n):  # features that only fill up a block stay 0
            at = order[b * n + t]
            z.y[t] = y[at]
            for j in range(x.shape[1]):
                z.x[j, t] = x[at, j]
        grad[:] = _ZERO
        if form.norm:
            z.by_scaled[:] = _ZERO
            z.by_unit[:] = _ZERO
        _forward(w, form, z)
        if takes[b]:
            _slopes(w, form, z)
            _lai(form, z)
            _slopes_back(w, g, form, z)
        else:
            for t in range(n):
                z.by_output[t] = _TWO * (z.output[t] - z.y[t]) / np.float32(n)
        _back(w, g, form, z, takes[b])
        step += 1
        _adam(theta, grad, first, second, step, lr)
    return step


_SLOPES = {"summed": SUMMED, "true": TRUE}


class Network:
    """One network with its optimiser's state, to be trained by :meth:`fit`. The model given is not changed.

    Parameters
    ----------
    model : MLP
        Float32, on the CPU, with two hidden layers whose widths are multiples of 4, ReLU or SiLU, and ``norm`` None or
        "batch"; raw or standardised features.
    lr : float
        Adam's step size.

    Raises
    ------
    ValueError
        For any other network; :class:`evidence.runs.old.stack.Stack` takes more kinds.

    Source: ours; the training is the paper's section 5.

    Examples
    --------
    >>> x = torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    >>> network = Network(MLP(1, (8, 4), seed=0), lr=0.01)
    >>> curve = network.fit((x, 3 * x[:, 0]), Lane(seed=0, lam=0.5), epochs=2, batch_size=32, val=(x, 3 * x[:, 0]))
    >>> [epoch for epoch, _ in curve]
    [0, 1]
    """

    def __init__(self, model: MLP, lr: float) -> None:
        if not takes(model):
            raise ValueError(
                f"model = {model}: compiled training takes float32 on the CPU, two hidden layers of ReLU or SiLU with widths "
                f"that are multiples of {BLOCK}, and norm=None or 'batch'"
            )
        linear = [layer for layer in model if isinstance(layer, nn.Linear)]
        norms = [layer for layer in model if isinstance(layer, nn.BatchNorm1d)]
        self._like = copy.deepcopy(model)
        self._lr = lr
        self._step = 0
        self._n_features = linear[0].in_features
        padded = math.ceil(self._n_features / BLOCK) * BLOCK
        self._sizes: Sizes = (padded, linear[0].out_features, linear[1].out_features)
        self._theta, self._first, self._second = (_aligned(_count(self._sizes)) for _ in range(3))
        self._running = _aligned(2, sum(self._sizes[1:]))
        for values, parameter in self._own():
            values[...] = parameter.detach().numpy()
        if norms:
            for kept, name in zip(self._running, ("running_mean", "running_var"), strict=True):
                kept[:] = np.concatenate([getattr(layer, name).numpy() for layer in norms])

    def _own(self, model: MLP | None = None) -> list[tuple[np.ndarray, Tensor]]:
        """The weights here, each with the parameter of the model that it is."""
        w = _weights(self._theta, self._sizes)
        layers = list(self._like if model is None else model)
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
        pairs = [
            (w.w1[:, : self._n_features], linear[0].weight), (w.b1, linear[0].bias),
            (w.w2, linear[1].weight), (w.b2, linear[1].bias),
            (w.w3[None], linear[2].weight), (w.b3, linear[2].bias),
        ]  # fmt: skip
        if norms:
            pairs += [(w.gain1, norms[0].weight), (w.shift1, norms[0].bias)]
            pairs += [(w.gain2, norms[1].weight), (w.shift2, norms[1].bias)]
        return pairs

    def model(self) -> MLP:
        """The network as it is now, as a copy, in training mode."""
        model = copy.deepcopy(self._like)
        with torch.no_grad():
            for values, parameter in self._own(model):
                parameter.copy_(torch.from_numpy(values))
            norms = [layer for layer in model if isinstance(layer, nn.BatchNorm1d)]
            at = 0
            for layer in norms:
                for kept, name in zip(self._running, ("running_mean", "running_var"), strict=True):
                    getattr(layer, name).copy_(torch.from_numpy(kept[at : at + layer.num_features]))
                assert layer.num_batches_tracked is not None
                layer.num_batches_tracked += self._step
                at += layer.num_features
        return model.train()

    def copy(self) -> Network:
        """Another one with the same weights and the same state of the optimiser: an arm that parts from a trunk."""
        other = Network(self._like, self._lr)
        for name in ("_theta", "_first", "_second", "_running"):
            getattr(other, name)[...] = getattr(self, name)
        other._step = self._step
        return other

    def fit(
        self,
        train: tuple[Tensor, Tensor],
        lane: Lane,
        *,
        epochs: int,
        batch_size: int,
        first_epoch: int = 0,
        pretrain_epochs: int = 0,
        slope: Slope = "summed",
        val: tuple[Tensor, Tensor] | None = None,
        validate_every: int = 1,
    ) -> list[tuple[int, float]]:
        """Train with the L2 Lai MSE on the Lai batches of ``lane`` and MSE on the rest; parameters as in fit_stack.

        Returns
        -------
        list of (epoch, RMSE)
            After each validated epoch, with running statistics; empty without ``val``.

        Raises
        ------
        FloatingPointError
            At the end of an epoch in which the weights left the finite numbers.
        ValueError
            For fewer rows than a batch, a batch of one with BatchNorm, or sampled points.
        """
        check_count("epochs", epochs)
        check_count("validate_every", validate_every, least=1)
        loop = _Loop(self, train, lane, batch_size, slope)
        n, n_batches = len(train[0]), len(train[0]) // batch_size
        schedule = LaiSchedule(lane.alpha, pretrain_epochs=pretrain_epochs, seed=lane.seed)
        nobody = np.zeros(n_batches, dtype=bool)
        curve = []
        for epoch in range(first_epoch, first_epoch + epochs):
            takes = nobody if lane.lam is None else schedule.batches(epoch, n_batches).numpy()
            loop.epoch(batch_order(lane.seed, epoch, n)[1].numpy(), takes)
            if not np.isfinite(self._theta).all():
                raise FloatingPointError(
                    f"weights are not finite after epoch {epoch} ({lane}); try a smaller lr or another λ"
                )
            last = epoch + 1 == first_epoch + epochs
            if val is not None and (last or (epoch + 1 - first_epoch) % validate_every == 0):
                curve.append((epoch, rmse(self.model(), *val)))
        return curve

    def gradients(self, x: Tensor, y: Tensor, lane: Lane, slope: Slope = "summed") -> dict[str, Tensor]:
        """The gradient of the Lai loss of one batch (of MSE if ``lane.lam`` is None) by each parameter, by name.

        Parameters
        ----------
        x, y : Tensors (B, n_features) and (B,)
        lane, slope
            As in :meth:`fit`.
        """
        other = self.copy()
        loop = _Loop(other, (x, y), lane, len(x), slope)
        loop.epoch(np.arange(len(x)), np.array([lane.lam is not None]))
        other._theta[:] = loop.grad
        return {name: parameter.detach() for name, parameter in other.model().named_parameters()}


class _Loop:
    """A network's training on some data with one loss, ready to run."""

    def __init__(
        self, network: Network, train: tuple[Tensor, Tensor], lane: Lane, batch_size: int, slope: Slope
    ) -> None:
        x, y = train
        n_features = network._n_features
        if x.ndim != 2 or x.shape[1] != n_features or y.shape != x.shape[:1]:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: (N, {n_features}) and (N,) are needed"
            )
        norm = next((layer for layer in network._like if isinstance(layer, nn.BatchNorm1d)), None)
        if check_count("batch_size", batch_size, least=1 if norm is None else 2) > len(x):  # one alone has no spread
            raise ValueError(f"batch_size = {batch_size}: it must not exceed the {len(x)} samples")
        check_choice("slope", slope, tuple(_SLOPES))
        if lane.sampling != "batches":
            raise ValueError(f"sampling = {lane.sampling!r}: compiled training takes 'batches'")
        check_lam(1.0 if lane.lam is None else lane.lam, n_features=n_features)
        self._network = network
        self.grad = _aligned(network._theta.size)
        scaling = network._like[0] if isinstance(network._like[0], Standardize) else None
        form = Form(
            norm=norm is not None,
            smooth=any(isinstance(layer, nn.SiLU) for layer in network._like),
            slope=_SLOPES[slope],
            momentum=np.float32(0 if norm is None else norm.momentum),
            eps=np.float32(0 if norm is None else norm.eps),
            lam=np.full(n_features, 1.0 if lane.lam is None else lane.lam).astype(np.float32),
            scale=np.ones(n_features, np.float32) if scaling is None else 1 / scaling.std.numpy(),
        )
        self._fixed = (
            _weights(network._theta, network._sizes),
            _weights(self.grad, network._sizes),
            form,
            _scratch(network._sizes, batch_size, network._running),
            np.ascontiguousarray((x if scaling is None else scaling(x)).numpy(), dtype=np.float32),
            np.ascontiguousarray(y.numpy(), dtype=np.float32),
        )

    def epoch(self, order: np.ndarray, takes: np.ndarray) -> None:
        """The samples in this order; ``takes`` says which batches have the Lai loss."""
        network = self._network
        state = network._theta, self.grad, network._first, network._second, network._step, network._lr
        network._step = _epoch(*state, *self._fixed, order, takes)


def takes(model: nn.Module) -> bool:
    """Whether this network is of the kind that :class:`Network` trains."""
    layers = [layer for layer in model if not isinstance(layer, Standardize)] if isinstance(model, MLP) else []
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
    act = nn.SiLU if any(isinstance(layer, nn.SiLU) for layer in layers) else nn.ReLU
    kind = [nn.Linear, *([nn.BatchNorm1d] if norms else []), act] * 2 + [nn.Linear, nn.Flatten]
    return (
        [type(layer) for layer in layers] == kind
        and all(layer.out_features % BLOCK == 0 for layer in layers[:-2] if isinstance(layer, nn.Linear))
        and all(norm.momentum is not None and norm.momentum == norms[0].momentum for norm in norms)
        and all(norm.eps == norms[0].eps for norm in norms)
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    )


def _aligned(*shape: int) -> np.ndarray:
    """Zeros that begin where a cache line does: a vector across two lines takes twice as long to read."""
    size, line = math.prod(shape), 64
    room = np.zeros(size * 4 + line, dtype=np.uint8)
    start = -room.ctypes.data % line
    return room[start : start + size * 4].view(np.float32).reshape(shape)


def _shapes(sizes: Sizes) -> tuple[tuple[int, ...], ...]:
    n_features, n_1, n_2 = sizes
    return (n_1, n_features), (n_1,), (n_1,), (n_1,), (n_2, n_1), (n_2,), (n_2,), (n_2,), (n_2,), (1,)


def _count(sizes: Sizes) -> int:
    return sum(math.prod(shape) for shape in _shapes(sizes))


def _weights(flat: np.ndarray, sizes: Sizes) -> Weights:
    views, at = [], 0
    for shape in _shapes(sizes):
        views.append(flat[at : at + math.prod(shape)].reshape(shape))
        at += math.prod(shape)
    return Weights(*views)


def _scratch(sizes: Sizes, n: int, running: np.ndarray) -> Scratch:
    n_features, n_1, n_2 = sizes
    batch: dict[str, tuple[int, ...]] = dict.fromkeys(("y", "output", "factor", "by_output", "whole"), (n,))
    of_data = {**dict.fromkeys(("x", "k", "centred"), (n_features, n)), "mean": (n_features,)}
    square = dict.fromkeys(("cov", "mix", "by_mix"), (n_features, n_features))
    first = dict.fromkeys(("a1", "d1", "s1", "p1", "q1", "h1"), (n_1, n))
    then = dict.fromkeys(("a2", "d2", "s2", "u2", "q2", "h2"), (n_2, n))
    vectors = {
        **dict.fromkeys(("total1", "along1", "inverse1"), (n_1,)),
        **dict.fromkeys(("inverse2", "along2"), (n_2,)),
    }
    in_weights = dict.fromkeys(("through", "unit", "scaled", "products", "by_scaled", "by_unit"), (n_1, n_features))
    turned = {"turned": (n_features, n_1), "folded": (n_2, n_1), "by_folded": (n_2, n_1), "back": (n_1, n_2)}
    shapes = batch | of_data | square | first | then | vectors | in_weights | turned
    arrays = {name: _aligned(*shape) for name, shape in shapes.items()}
    return Scratch(**arrays, running=running, bits=arrays["whole"].view(np.int32))
