"""Run by the peer's own Python: a .dp file as TensorFlow graphs, plain and compressed.

    python peer_graph.py model.dp plain.pb compressed.pb

The peer's converter leaves out the parts of the training input that its `dp compress` asks for; they are put in here.
"""

from __future__ import annotations

import json
import os
import sys

from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.tf.entrypoints import compress
from deepmd.tf.env import tf

TRAINING = {"learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5}, "training": {"numb_steps": 0}}


def complete_script(path: str) -> None:
    """Adds the sections that `dp compress` checks to the input stored in a frozen graph."""
    graph = tf.GraphDef()
    with open(path, "rb") as stream:
        graph.ParseFromString(stream.read())
    node = next(n for n in graph.node if n.name == "train_attr/training_script")
    tensor = node.attr["value"].tensor
    script = {**TRAINING, **json.loads(tensor.string_val[0])}
    tensor.string_val[0] = json.dumps(script).encode()
    with open(path, "wb") as stream:
        stream.write(graph.SerializeToString())


def main() -> None:
    source, plain, compressed = map(os.path.abspath, sys.argv[1:])
    convert_backend(INPUT=source, OUTPUT=plain)
    complete_script(plain)
    tf.reset_default_graph()
    compress(input=plain, output=compressed, extrapolate=5, step=0.01, frequency="-1",
             checkpoint_folder="model-compression", training_script=None, mpi_log="master", log_path=None,
             log_level=0)  # fmt: skip


if __name__ == "__main__":
    main()
