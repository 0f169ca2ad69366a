"""ZenML: eleven steps on its default stack, which runs them in one process and keeps their results on this disk.

python -m benchmarks.orchestrators.zenml_pipeline [--cache]
"""

import sys

from zenml import pipeline, step


@step
def step_00() -> int:
    """Written out: ZenML finds a step by its name in the module."""
    return 0


@step
def step_01(before: int) -> int:
    return 1


@step
def step_02(before: int) -> int:
    return 2


@step
def step_03(before: int) -> int:
    return 3


@step
def step_04(before: int) -> int:
    return 4


@step
def step_05(before: int) -> int:
    return 5


@step
def step_06(before: int) -> int:
    return 6


@step
def step_07(before: int) -> int:
    return 7


@step
def step_08(before: int) -> int:
    return 8


@step
def step_09(before: int) -> int:
    return 9


@step
def step_10(before: int) -> int:
    return 10


FIRST, *OTHERS = (step_00, step_01, step_02, step_03, step_04, step_05, step_06, step_07, step_08, step_09, step_10)


@pipeline(enable_cache="--cache" in sys.argv)
def eleven() -> None:
    """One after the other."""
    result = FIRST()
    for one in OTHERS:
        result = one(result)


if __name__ == "__main__":
    eleven()
