"""torchrun, ended along with the process that started it: nothing stays behind on the GPUs when that one is killed.

python -m noria.training.agent ARGUMENTS OF TORCHRUN
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent(signum: int) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)


def main() -> None:
    """Told to end, torchrun tells the ranks, and gives them 30 s to save."""
    end_with_parent(signal.SIGTERM)
    # Ranks that share the store of torchrun find in it, started again, the addresses of those that died: they never
    # meet (seen with torch 2.13; pytorch/pytorch#135712)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    from torch.distributed.run import main as torchrun  # importing it takes seconds, in which a parent can end

    torchrun()


if __name__ == "__main__":
    main()
