"""What numbers among settings may be; asked when settings are built, so that a typo is no traceback an hour later.

Knows: names, kinds and ranges of numbers. Does not know: what a setting does.
"""

from __future__ import annotations

import math
from typing import Any


def check_whole(what: str, cfg: Any, *names: str, least: int) -> None:
    """Raise ValueError where a setting is no whole number of at least ``least``.

    Args:
        what: Whose settings, for the error.
        cfg: A dataclass of settings.
        names: Of the settings.
        least: Smallest allowed value.
    """
    for name in names:
        value = getattr(cfg, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{what}: {name} is {value!r}; it must be a whole number, at least {least}")


def check_range(what: str, cfg: Any, *names: str, low: float = 0.0, high: float = math.inf) -> None:
    """Raise ValueError where a setting is no finite number in [``low``, ``high``]; arguments as of ``check_whole``."""
    rule = f"a finite number, at least {low:g}" if math.isinf(high) else f"a number in [{low:g}, {high:g}]"
    for name in names:
        value = getattr(cfg, name)
        known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not known or not low <= value <= high:
            raise ValueError(f"{what}: {name} is {value!r}; it must be {rule}")
