"""Ask which plan is fastest, train with it, look at the records, and go on for longer.

python examples/plan_then_train.py   # the built-in graph on two processes; about half a minute
python examples/plan_then_train.py --data Cora --layers 64 --devices 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gnnpipe


def main() -> None:
    """Plan, train, resume."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="synthetic", help="name of a data set")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/planned"))
    options = parser.parse_args()

    plans = gnnpipe.plan(options.data, layers=options.layers, devices=options.devices, hardware="cpu-25g")
    for found in plans[:3]:
        plan = found.plan
        shape = f"{plan.num_stages} x {plan.num_parts} x {plan.num_chunks}"
        print(f"{shape:>12} (stages x parts x chunks): {found.seconds:.3g} s an epoch by simulation")

    best = plans[0].plan
    run = gnnpipe.train(
        options.data,
        layers=options.layers,
        stages=best.num_stages,
        parts=best.num_parts,
        chunks=best.num_chunks,
        epochs=options.epochs,
        checkpoint_every=options.epochs,
        eval_every=max(1, options.epochs // 4),
        out=options.out,
        overwrite=True,
    )
    for record in run.records():
        if "val" in record:
            print(f"epoch {record['epoch']:>4}  loss {record['loss']:.4f}  validation {record['val']:.4f}")

    run = gnnpipe.resume(run, epochs=2 * options.epochs)
    print(f"test at best validation: {run.summary['test_at_best_val']:.4f}; see gnnpipe show {run.folder}")


if __name__ == "__main__":
    main()
