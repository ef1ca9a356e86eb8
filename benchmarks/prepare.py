"""Makes all that the other benchmarks need: models, the peer's graphs, our compressed files.

Not a timing: run it while the machine is in use. What stands already is kept.
"""

from __future__ import annotations

import argparse

from engines import PEERS, compressed
from inputs import OBSERVERS, trained
from peer import peer_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="barely trained models, as --quick of the others takes")
    args = parser.parse_args()
    for model in ("water", "copper", *OBSERVERS):
        source = trained(model, args.quick)
        made = [peer_graph(source, *kind).name for kind in PEERS.values()]
        for kind in ("exact", "spectral"):
            ours = compressed(model, kind, args.quick)
            made.append(ours if isinstance(ours, str) else ours.name)
        print(f"{model}: {source.name}, {', '.join(made)}", flush=True)


if __name__ == "__main__":
    main()
