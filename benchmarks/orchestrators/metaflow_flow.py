"""Metaflow: eleven steps, each a process, whose results are kept on this disk.

python -m benchmarks.orchestrators.metaflow_flow run
"""

from metaflow import FlowSpec, step


class Eleven(FlowSpec):
    """Written out: Metaflow reads the steps from the source."""

    @step
    def start(self):  # noqa: ANN201
        self.number = 0
        self.next(self.step_01)

    @step
    def step_01(self):  # noqa: ANN201
        self.number = 1
        self.next(self.step_02)

    @step
    def step_02(self):  # noqa: ANN201
        self.number = 2
        self.next(self.step_03)

    @step
    def step_03(self):  # noqa: ANN201
        self.number = 3
        self.next(self.step_04)

    @step
    def step_04(self):  # noqa: ANN201
        self.number = 4
        self.next(self.step_05)

    @step
    def step_05(self):  # noqa: ANN201
        self.number = 5
        self.next(self.step_06)

    @step
    def step_06(self):  # noqa: ANN201
        self.number = 6
        self.next(self.step_07)

    @step
    def step_07(self):  # noqa: ANN201
        self.number = 7
        self.next(self.step_08)

    @step
    def step_08(self):  # noqa: ANN201
        self.number = 8
        self.next(self.step_09)

    @step
    def step_09(self):  # noqa: ANN201
        self.number = 9
        self.next(self.end)

    @step
    def end(self):  # noqa: ANN201
        self.number = 10


if __name__ == "__main__":
    Eleven()
