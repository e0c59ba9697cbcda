"""Exploration of a gSDE policy on a robot: its noise matrix from a seed and a tick, the same bits on every machine.

A policy that was trained with gSDE (Raffin, Kober and Stulp, CoRL 2021, arXiv:2005.05719) takes a second, optional
input ``exploration``, a matrix xi of standard normal numbers, and answers ``tanh(mu(s) + z(s)^T (sigma * xi))``; its
default, zeros, gives the mean ``tanh(mu(s))``. The deviations sigma are weights of the graph. So the seed, the interval
between draws and the number of a tick are all it takes to repeat that tick's action.

The generator is written out, because neither NumPy's normal numbers nor the logarithm of a C library are the same
everywhere: Philox4x64-10 (Salmon et al. 2011) with the seed and the draw's index as its key, the counter of the first
block being one, its output in 32-bit halves, low half first, each the uniform ``(half + 1/2) / 2^32``, mapped by the
inverse normal distribution function (Wichura 1988, algorithm AS 241) in float64 with + - * / and sqrt only, rounded to
float32.

Knows: the input's name, the generator, when matrices change, what a policy file says of them.
Does not know: networks, deviations, golden states (``golden``), control loops.

Shapes: F features · A action · n golden steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.contract.vectors import json_object, short

EXPLORATION = "exploration"
"""Name of the network's optional input."""
KEY_EXPLORATION = "robot_rl.exploration"
"""Metadata key; a file has it where its network has the input."""
GENERATOR = "philox4x64-10, AS 241"
"""What a file must name as its generator; another number for the same seed would be another generator."""
GOLDEN_SEED = 20
MAX_SEED = 2**64 - 1

_HALF = 2.0**-32
_CENTRE = 0.425
# AS 241, PPND16: coefficients from the constant term up, numerator and denominator.
_NEAR_A = (
    3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
_NEAR_B = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
_FAR_C = (
    1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
    1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
_FAR_D = (
    1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(12))


@dataclass(frozen=True, slots=True)
class Exploration:
    """How a policy explores, and golden vectors of it: its actions in the golden steps, at the ticks from ``first``."""

    shape: tuple[int, int]
    """(F, A), that of the network's input."""
    interval: int
    """Ticks between draws of the matrix that the policy was trained with, at least 1."""
    seed: int
    first: int
    actions: NDArray[np.float64]
    """Expected network outputs, (n, A)."""

    def matrix(self, step: int) -> NDArray[np.float32]:
        """Return xi of golden step ``step``, (F, A)."""
        return draw(self.seed, draw_index(self.first + step, self.interval), self.shape)

    def to_json(self) -> str:
        """Return everything but the shape, which stands in the graph."""
        raw = {
            "generator": GENERATOR,
            "interval": self.interval,
            "seed": self.seed,
            "first": self.first,
            "actions": self.actions.tolist(),
        }
        return json.dumps(raw, separators=(",", ":"), allow_nan=False)


def record_exploration(
    obs: NDArray[Any], infer: Callable[..., NDArray[Any]], *, shape: tuple[int, int], interval: int
) -> Exploration:
    """Let a network explore in the golden steps, across a redraw of the matrix where the interval allows.

    Args:
        obs: Golden observations, (n, D).
        infer: Maps an observation (1, D) and a matrix (F, A), both float32, to A numbers.
        shape: (F, A).
        interval: Ticks between draws that the policy was trained with.
    """
    first = max(0, check_interval(interval) - len(obs) // 2)
    plan = Exploration(shape, interval, GOLDEN_SEED, first, np.zeros((0, 0)))
    rows = [infer(row[None], plan.matrix(i)) for i, row in enumerate(np.asarray(obs, np.float32))]
    return replace(plan, actions=short(np.stack([np.asarray(row).ravel() for row in rows])))


def draw(seed: int, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return draw number ``index`` of ``seed``: standard normal numbers, float32, row by row, not writeable.

    Args:
        seed: In [0, 2^64).
        index: In [0, 2^64).
        shape: (F, A), of any number of elements.
    """
    count = int(np.prod(shape))
    source = np.random.Philox(key=np.array([check_seed(seed), index], np.uint64))
    halves = source.random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    xi = inverse_normal((halves + 0.5) * _HALF).astype(np.float32).reshape(shape)
    xi.flags.writeable = False
    return xi


def draw_index(tick: int, interval: int) -> int:
    """Return which draw a tick explores with: a new one whenever ``interval`` divides the tick."""
    return tick // interval


def check_seed(seed: int) -> int:
    """Return ``seed``; raise ValueError where the generator has no such key."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"exploration seed is {seed}; it must lie in [0, 2^64)")
    return seed


def check_interval(interval: int) -> int:
    """Return ``interval``; raise ValueError where it is no number of ticks."""
    if interval < 1:
        raise ValueError(f"exploration interval is {interval}; it must be at least 1 tick")
    return interval


def inverse_normal(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal quantiles of ``p``, (n,), each in [2^-33, 1 - 2^-33]; the same bits everywhere.

    Within that range |x| < 6.4 and AS 241's third, outermost region is never entered.
    """
    q = p - 0.5
    near = 0.180625 - q * q
    x = q * _polynomial(_NEAR_A, near) / _polynomial(_NEAR_B, near)
    tail = np.flatnonzero(np.abs(q) > _CENTRE)
    r = np.sqrt(-_log(np.minimum(p[tail], 1.0 - p[tail]))) - 1.6
    x[tail] = np.copysign(_polynomial(_FAR_C, r) / _polynomial(_FAR_D, r), q[tail])
    return x


def parse_exploration(text: str, shape: tuple[int, ...], where: str) -> Exploration:
    """Read what ``Exploration.to_json`` wrote for a network whose input has ``shape``.

    Raises:
        ValueError: The field that is wrong, with what is expected.
    """
    raw = json_object(text, where)
    wanted = {"generator", "interval", "seed", "first", "actions"}
    if set(raw) != wanted:
        raise ValueError(f"{where} has the fields {sorted(raw)}; expected {sorted(wanted)}")
    if raw["generator"] != GENERATOR:
        raise ValueError(f"{where}.generator is {raw['generator']!r}; this version has {GENERATOR!r}")
    numbers: dict[str, int] = {}
    for name, low, high in (("interval", 1, MAX_SEED), ("seed", 0, MAX_SEED), ("first", 0, MAX_SEED)):
        value: Any = raw[name]
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{where}.{name} is {value!r}; expected a whole number in [{low}, 2^64)")
        numbers[name] = value
    try:
        actions = np.array(raw["actions"], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}.actions is no array of numbers: {error}") from error
    if actions.ndim != 2 or not np.all(np.isfinite(actions)):
        raise ValueError(f"{where}.actions has shape {actions.shape}; expected finite numbers, a row per golden step")
    return Exploration(shape=(shape[0], shape[1]), actions=actions, **numbers)


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm of positive numbers: exponent times ln 2, and the series of 2 atanh((m - 1) / (m + 1))."""
    mantissa, exponent = np.frexp(x)  # mantissa in [1/2, 1)
    low = mantissa < _SQRT_HALF
    m, e = np.where(low, 2.0 * mantissa, mantissa), exponent - low
    s = (m - 1.0) / (m + 1.0)  # |s| < 0.172
    return e * _LN2 + 2.0 * s * _polynomial(_ATANH, s * s)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Horner's scheme, every product and sum rounded on its own."""
    total = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total *= x
        total += c
    return total
