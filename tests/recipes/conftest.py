import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny tensors: two threads would only wait for each other."""
    torch.set_num_threads(1)
