"""Races between programs and between threads, which the interpreter must find where the other checks run."""

import pytest
import torch

from tests.support.triton_races import RaceError, watched


def shifted(programs, stride, barrier):
    """Run a kernel that is watched; return its result."""
    from tests.kernels.triton_raw import add_and_shift

    values, out = torch.arange(200, dtype=torch.int32), torch.zeros(200, dtype=torch.int32)
    with watched():
        add_and_shift[(programs,)](values, out, stride, 64, barrier)
    return out


def two_programs_that_store_to_one_address():
    """Of 64 places each, 60 apart, in both tensors."""
    with pytest.raises(RaceError, match=r"^add_and_shift: programs store to each of 8 addresses$"):
        shifted(2, 60, True)


def a_program_that_loads_what_another_stores():
    """The first place of the second program, by the first one."""
    with pytest.raises(RaceError, match=r"^add_and_shift: programs store to and load from each of 1 addresses$"):
        shifted(2, 64, True)


def threads_that_load_without_a_barrier():
    """All but the last, whose neighbour nobody stores."""
    told = r"^add_and_shift: lanes of a program store to and load from each of 63 addresses$"
    with pytest.raises(RaceError, match=told):
        shifted(1, 64, False)


def no_race():
    """The same loads behind a barrier. Before it, each lane loads what it stores."""
    assert shifted(1, 64, True)[:65].tolist() == [*range(2, 65), 64, 0]


def threads_that_store_to_one_address():
    """Two to each of 32."""
    from tests.kernels.triton_raw import halve

    with pytest.raises(RaceError, match=r"^halve: lanes of a program store to each of 32 addresses$"), watched():
        halve[(1,)](torch.arange(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32), 64)


def threads_that_load_before_another_stores():
    """In place: the second half of each pair of neighbours."""
    from tests.kernels.triton_raw import halve

    values = torch.arange(64, dtype=torch.int32)
    with pytest.raises(RaceError, match=r"^halve: lanes of a program store to"), watched():
        halve[(1,)](values, values, 64)


RACE_CHECKS = (
    two_programs_that_store_to_one_address,
    a_program_that_loads_what_another_stores,
    threads_that_load_without_a_barrier,
    threads_that_store_to_one_address,
    threads_that_load_before_another_stores,
    no_race,
)
