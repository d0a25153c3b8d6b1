"""What an interpreted Triton launch loads and stores.

On a GPU its programs run at the same time, in no order, and the threads of a program see each other's stores behind a
barrier alone. The interpreter runs one program after the other, so it gives the right result in spite of a race.
"""

import contextlib
from typing import Any
from unittest import mock

import numpy as np


class RaceError(AssertionError):
    """The result of a launch depends on the order of its programs or threads."""


class Accesses:
    """The loads and stores of one launch, each in a section between two barriers; atomic operations are not noted."""

    def __init__(self) -> None:
        self.loads: list[np.ndarray] = []  # int64 [N, 4] each: address, program, section, lane
        self.stores: list[np.ndarray] = []
        self.program = self.section = 0

    def note(self, kind: list[np.ndarray], addresses: Any, mask: Any) -> None:
        """Keep the addresses that a mask lets through. A lane is an element's place in its tensor."""
        lanes = np.flatnonzero(np.asarray(mask, bool))
        used = np.asarray(addresses, np.uint64).reshape(-1)[lanes].astype(np.int64)
        here = np.broadcast_to([self.program, self.section], (len(used), 2))
        kind.append(np.column_stack([used, here, lanes]))

    def check(self, kernel: str) -> None:
        """Raise an error if programs, or lanes of a program between two barriers, share an address that one stores."""
        stores = np.concatenate([*self.stores, np.empty((0, 4), np.int64)])
        loads = np.concatenate([*self.loads, stores[:0]])
        both = np.concatenate([stores, loads])
        both = both[np.isin(both[:, 0], stores[:, 0])]
        for what, columns, column in (("programs", [0], 1), ("lanes of a program", [0, 1, 2], 3)):
            for verb, some in (("store to", stores), ("store to and load from", both)):
                if count := _shared(some, columns, column, stores):
                    raise RaceError(f"{kernel}: {what} {verb} each of {count} addresses")


def _shared(rows: np.ndarray, columns: list[int], column: int, stores: np.ndarray) -> int:
    """Return how many groups of rows, equal in some columns, have a store and differ in one more column."""
    rows = np.unique(rows[:, [*columns, column]], axis=0)
    groups, counts = np.unique(rows[:, :-1], axis=0, return_counts=True)
    if (counts == 1).all():  # as in every launch without a race, some of a million addresses
        return 0
    stored = np.unique(stores[:, columns], axis=0)
    return len({tuple(group) for group in groups[counts > 1].tolist()} & {tuple(row) for row in stored.tolist()})


@contextlib.contextmanager
def watched():
    """Raise a RaceError behind a launch, of those that are interpreted while this lasts, that has one."""
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    own = {name: getattr(InterpreterBuilder, name) for name in ("create_masked_load", "create_masked_store")}
    place, barrier, run = InterpreterBuilder.set_grid_idx, InterpreterBuilder.create_barrier, GridExecutor.__call__
    launch = Accesses()

    def set_grid_idx(self, x, y, z):
        place(self, x, y, z)
        launch.program = (z * self.grid_dim[1] + y) * self.grid_dim[0] + x
        launch.section += 1

    def create_barrier(self):
        launch.section += 1
        return barrier(self)

    def create_masked_load(self, pointers, mask, *rest):
        launch.note(launch.loads, pointers.data, mask.data)
        return own["create_masked_load"](self, pointers, mask, *rest)

    def create_masked_store(self, pointers, value, mask, *rest):
        launch.note(launch.stores, pointers.data, mask.data)
        return own["create_masked_store"](self, pointers, value, mask, *rest)

    def call(self, *arguments, **keywords):
        nonlocal launch
        launch = Accesses()
        run(self, *arguments, **keywords)
        launch.check(self.fn.__name__)

    with (
        mock.patch.multiple(
            InterpreterBuilder, set_grid_idx=set_grid_idx, create_barrier=create_barrier,
            create_masked_load=create_masked_load, create_masked_store=create_masked_store,
        ),
        mock.patch.object(GridExecutor, "__call__", call),
    ):  # fmt: skip
        yield
