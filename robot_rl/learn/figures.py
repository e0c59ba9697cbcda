"""Matplotlib figures as text.

Knows: how a figure becomes the same bytes every time. Does not know: what is drawn.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_svg(figure: Figure) -> str:
    """Return the figure as SVG, the same text for the same drawing."""
    import matplotlib as mpl

    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": "robot-rl"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
