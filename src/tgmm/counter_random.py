"""Counter-based random numbers: every number is a pure function of (seed, stream, task, position).

The bits are Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), computed with
integer tensor operations, and the normals are Wichura's AS 241 inverse distribution function (Applied Statistics 37,
1988) evaluated in float64 with nothing but correctly rounded operations (+, -, *, /, sqrt). So a task's points are the
same bits on any device, any processor and in any batch, which is what lets a task set be checked by a hash.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
ATTEMPT_BITS = 24

CENTRAL_NUMERATOR = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
CENTRAL_DENOMINATOR = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
TAIL_NUMERATOR = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
TAIL_DENOMINATOR = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
SQRT_HALF = 0.7071067811865476
LN_2 = 0.6931471805599453
LOG_TERMS = 11
EXP_TERMS = 20
SPLITTER = 2.0**27 + 1.0  # splits a float64 into two halves of 26 bits


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, so that differently named streams never overlap."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10 of four int64 tensors that hold 32-bit words (broadcastable), and a key of two words."""
    x0, x1, x2, x3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]
        x0, x2 = (product1 >> 32 & WORD) ^ x1 ^ k0, (product0 >> 32 & WORD) ^ x3 ^ k1
        x1, x3 = product1 & WORD, product0 & WORD
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return x0, x1, x2, x3


def random_words(seed: int, stream: int, index: Tensor, count: int, attempt: int | Tensor = 0) -> Tensor:
    """``count`` 32-bit words for every task; the first words do not depend on ``count``.

    Parameters
    ----------
    seed : int in [0, 2^63), the Philox key.
    stream : int in [0, 256), what the numbers are for; streams do not overlap.
    index : Tensor (...) of int64, the tasks' indices.
    attempt : int or Tensor broadcastable to ``index``, in [0, 2^24): the attempt of a rejection sampler.

    Returns
    -------
    Tensor (..., count) of int64, each in [0, 2^32).
    """
    index = index[..., None]
    attempt = torch.as_tensor(attempt, device=index.device)[..., None]
    block = torch.arange((count + 3) // 4, device=index.device)
    counter = (block, attempt | stream << ATTEMPT_BITS, index & WORD, index >> 32 & WORD)
    words = torch.stack(philox(counter, (seed & WORD, seed >> 32 & WORD)), dim=-1)
    return words.flatten(-2)[..., :count]


def random_uniform(seed: int, stream: int, index: Tensor, count: int, attempt: int | Tensor = 0) -> Tensor:
    """Uniform numbers strictly inside (0, 1), float64, shaped as :func:`random_words`."""
    return (random_words(seed, stream, index, count, attempt).double() + 0.5) * 2.0**-32


def random_normal(seed: int, stream: int, index: Tensor, count: int) -> Tensor:
    """Standard normal numbers, float64, shaped as :func:`random_words`."""
    return inverse_normal_cdf(random_uniform(seed, stream, index, count))


def inverse_normal_cdf(probability: Tensor) -> Tensor:
    """AS 241's PPND16 for float64 probabilities in [1e-11, 1 - 1e-11], without its far tail.

    The 32-bit uniforms never come closer to 0 or 1 than 2^-33, where AS 241 has not reached its far tail yet.
    """
    centred = probability - 0.5
    squared = 0.180625 - centred * centred
    central = centred * _horner(CENTRAL_NUMERATOR, squared) / _horner(CENTRAL_DENOMINATOR, squared)
    outer = squared < 0.0
    if probability.is_cuda:  # selecting would make the host wait
        return torch.where(outer, _inverse_normal_tail(probability), central)
    central[outer] = _inverse_normal_tail(probability[outer])
    return central


def _inverse_normal_tail(probability: Tensor) -> Tensor:
    """AS 241 away from the centre, |probability - 0.5| > 0.425."""
    radius = _exact_sqrt(-_exact_log(torch.minimum(probability, 1.0 - probability))) - 1.6
    tail = _horner(TAIL_NUMERATOR, radius) / _horner(TAIL_DENOMINATOR, radius)
    return torch.where(probability < 0.5, -tail, tail)


def softplus(argument: Tensor) -> Tensor:
    """log(1 + exp(x)) of float64 numbers in [-1, 1], as exactly reproducible as the normals.

    Libraries' exponentials differ in the last bit between processors, and between the middle and the end of an array.
    """
    exponential = _horner(tuple(1.0 / math.factorial(term) for term in range(EXP_TERMS)), argument)
    return _exact_log(1.0 + exponential)


def _horner(coefficients: tuple[float, ...], argument: Tensor) -> Tensor:
    value = torch.full_like(argument, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value.mul_(argument).add_(coefficient)
    return value


def _exact_sqrt(argument: Tensor) -> Tensor:
    """The correctly rounded root of positive float64 numbers, where torch's may be off in the last bit.

    It is off on CUDA, and for one number in eighty where torch's vector functions compute it.

    With r a root that is off by one unit at most, r² is computed exactly in two parts (Dekker 1971), so x - r² is
    exact. The next number above is nearest to the root if x lies above the square of the midpoint, (r + gap/2)², and
    since all terms are multiples of gap², that is x - r² > r·gap; likewise below.
    """
    root = torch.sqrt(argument)
    high = root * SPLITTER
    high = high - (high - root)
    low = root - high
    square = root * root
    residual = (argument - square) - (((high * high - square) + 2.0 * high * low) + low * low)
    above = torch.nextafter(root, torch.full_like(root, torch.inf))
    below = torch.nextafter(root, torch.zeros_like(root))
    corrected = torch.where(residual > root * (above - root), above, root)
    return torch.where(residual <= -root * (root - below), below, corrected)


def _exact_log(argument: Tensor) -> Tensor:
    """Natural logarithm from correctly rounded operations only (libraries' logs differ in the last bit)."""
    mantissa, exponent = torch.frexp(argument)
    small = mantissa < SQRT_HALF
    mantissa = torch.where(small, 2.0 * mantissa, mantissa)
    exponent = exponent.double() - small.double()
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    series = _horner(tuple(1.0 / (2 * term + 1) for term in range(LOG_TERMS)), ratio * ratio)
    return exponent * LN_2 + 2.0 * ratio * series
