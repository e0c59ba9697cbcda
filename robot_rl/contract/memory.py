"""Memory of a policy with a GRU or LSTM: what its network takes beside the observation and gives beside the action.

Such a network computes ``actions, h_out`` from ``obs, h_in``, with an LSTM ``actions, h_out, c_out`` from ``obs, h_in,
c_in``: the names and shapes, (1, 1, F), of RSL-RL's exports, which Isaac Lab and mjlab use too. One tensor for both
would save a name and be read by nobody else. At the next control step a runtime feeds back what came out; zeros where
the policy begins, that is where it takes over from standing, and in simulation after every end of an episode. While a
person drives, the policy goes on seeing and remembering. Unlike ``exploration`` the inputs have no default: a runtime
that forgets them gets an error from the inference library, not a robot that forgets.

The golden actions of such a file are those of the golden steps in sequence, from zeros before the first one; so are
its golden actions while exploring. A runtime that loses the memory does not reproduce the second step.

The contract says nothing of it: what a policy keeps to itself does not matter to a robot, and one with a memory may be
exchanged for one without while the robot walks.

Knows: the tensors' names, their layout as one vector (h, then c), what a policy file says of them.
Does not know: cells, how they are learnt, when a control loop begins (``runtime``).

Shapes: F features · W width of the vector, F or 2 F.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_rl.contract.model_file import ModelFile
from robot_rl.contract.vectors import json_object

KEY_MEMORY = "robot_rl.memory"
"""Metadata key; a file has it where its network has the inputs."""
TENSORS = {"gru": ("h",), "lstm": ("h", "c")}
"""By kind of the cell: tensors, each the network's input ``<name>_in`` and its output ``<name>_out``."""
START = "zeros"
"""What a file must name as the memory at the start; this version has no other."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a policy remembers from step to step; equal ones may be exchanged."""

    kind: str
    """A key of ``TENSORS``."""
    features: int
    """F."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs, in the order of the vector."""
        return tuple(f"{name}_in" for name in TENSORS[self.kind])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs, in the order of the vector."""
        return tuple(f"{name}_out" for name in TENSORS[self.kind])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of each tensor: layers, robots, F."""
        return 1, 1, self.features

    @property
    def width(self) -> int:
        """W."""
        return self.features * len(TENSORS[self.kind])

    def to_json(self) -> str:
        """Return what a policy file says of it."""
        return json.dumps({"kind": self.kind, "features": self.features, "start": START}, separators=(",", ":"))


def of_network(inputs: Mapping[str, tuple[int, ...]]) -> Memory | None:
    """Return the memory that a network with these inputs, shapes by name, takes; None where it takes none."""
    kind = "lstm" if "c_in" in inputs else "gru" if "h_in" in inputs else None
    if kind is None:
        return None
    shape = inputs.get("h_in", ())
    return Memory(kind, shape[-1] if shape and shape[-1] > 0 else 1)


def read_memory(model: ModelFile) -> Memory | None:
    """Return what a file says of its network's memory; None where that has none.

    Raises:
        ValueError: Metadata and network do not fit together; the field is named.
    """
    taken, text = of_network(model.inputs), model.metadata.get(KEY_MEMORY)
    if (taken is None) != (text is None):
        has, lacks = ("metadata", "input") if taken is None else ("input", "metadata")
        name = {"metadata": KEY_MEMORY, "input": "h_in"}
        raise ValueError(
            f"{model.path} has the {has} {name[has]!r} without the {lacks} {name[lacks]!r}; the file was edited"
        )
    if taken is None or text is None:
        return None
    where = f"{model.path}: {KEY_MEMORY}"
    raw = json_object(text, where)
    wanted: dict[str, Any] = json.loads(taken.to_json())
    if set(raw) != set(wanted):
        raise ValueError(f"{where} has the fields {sorted(raw)}; expected {sorted(wanted)}")
    for name, value in wanted.items():
        if type(raw[name]) is not type(value) or raw[name] != value:
            what = "this version has" if name == "start" else "the network has"
            raise ValueError(f"{where}.{name} is {raw[name]!r}; {what} {value!r}")
    return taken
