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
    """The loads and stores of one launch, of which each has a number and lies in a section between two barriers."""

    def __init__(self) -> None:
        self.loads: list[np.ndarray] = []  # int64 [N, 4] each: address, program, section, number
        self.stores: list[np.ndarray] = []
        self.program = self.section = self.number = 0

    def note(self, kind: list[np.ndarray], addresses: Any, mask: Any) -> None:
        """Keep the addresses that a mask lets through."""
        used = np.asarray(addresses, np.uint64)[np.asarray(mask, bool)].astype(np.int64)
        self.number += 1
        here = np.broadcast_to([self.program, self.section, self.number], (len(used), 3))
        kind.append(np.column_stack([used, here]))

    def check(self, kernel: str) -> None:
        """Raise an error if a program stores what another stores or loads, or loads what it stored in a section."""
        if not self.stores:
            return
        stores = np.concatenate(self.stores)
        stores = stores[np.lexsort(stores.T[::-1])]  # by address, program, section, number
        same = stores[1:, 0] == stores[:-1, 0]
        if (shared := same & (stores[1:, 1] != stores[:-1, 1])).any():
            raise RaceError(f"{kernel}: two programs store to each of {shared.sum()} addresses")
        loads = np.concatenate([*self.loads, stores[:0]])
        place = np.searchsorted(stores[:, 0], loads[:, 0]).clip(max=max(len(stores) - 1, 0))
        if not len(stores):
            return
        stored = stores[place, 0] == loads[:, 0]
        loads, owners = loads[stored], stores[place[stored], 1]
        if (foreign := owners != loads[:, 1]).any():
            raise RaceError(f"{kernel}: programs load {foreign.sum()} times what another program stores")
        both = np.concatenate([np.insert(stores, 4, 0, axis=1), np.insert(loads, 4, 1, axis=1)])
        both = both[np.lexsort((both[:, 3], both[:, 2], both[:, 0]))]  # by address, section, number
        follows = (both[1:, [0, 2]] == both[:-1, [0, 2]]).all(axis=1) & (both[:-1, 4] == 0) & (both[1:, 4] == 1)
        if follows.any():
            raise RaceError(f"{kernel}: {follows.sum()} loads of what the program stored, with no barrier between")


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
