"""Work on a GPU that is recorded as a CUDA graph once its shape has come a few times, and then replayed.

Work reads what differs from call to call from tensors that stay where they are, so that the first one of a key serves
all. On the CPU, which stands in for a GPU in tests, replaying means calling that first one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

MOST = 24  # recordings that are kept
WARM_UP = 2  # ordinary calls of a key before it is recorded
FEW = 16  # times as many keys are counted as recordings are kept
Work = Callable[[], None]


class Recorder:
    """Records on the current stream, which is not the default one, into one pool of memory."""

    def __init__(self, device: torch.device):
        self.device = device
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def wait(self) -> None:
        """Until all that was begun is done."""
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()

    def record(self, work: Work) -> Work:
        """What does the same work again, on numbers that may have changed."""
        if self.device.type != "cuda":
            return work
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.current_stream()):
            work()
        return graph.replay


class Recordings:
    """By key: the first calls run as they are, then one is recorded; of too many, the least recently used goes."""

    def __init__(self, recorder: Recorder, most: int = MOST):
        self.recorder, self.most = recorder, most
        self._known: OrderedDict[Hashable, Work] = OrderedDict()
        self._calls: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def run(self, key: Hashable, work: Work) -> None:
        """The work of a key, once."""
        if key not in self._known:
            self._calls[key] = self._calls.pop(key, 0) + 1
            if self._calls[key] <= WARM_UP:
                if len(self._calls) > FEW * self.most:
                    self._calls.popitem(last=False)
                return work()
            del self._calls[key]
            self._known[key] = self.recorder.record(work)  # recording does not run it
            if len(self._known) > self.most:
                self.recorder.wait()
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]()

    def clear(self) -> None:
        """After memory that was recorded has moved."""
        self.recorder.wait()
        self._known.clear()
        self._calls.clear()
