"""As optuna_search.py, but runs that are behind the others after ten epochs or more are given up."""

from typing import Any

import gnnpipe
import optuna

CORA = {"num_nodes": 2708, "avg_degree": 4, "num_classes": 7, "num_features": 1433, "noise": 15}


class Pruning(gnnpipe.Callback):
    """Tells Optuna of each evaluation, and ends the run if Optuna gives it up."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_evaluate(self, record: dict[str, Any]) -> Any:
        self.trial.report(record["val"], record["epoch"])
        return gnnpipe.STOP if self.trial.should_prune() else None


def objective(trial: optuna.Trial) -> float:
    layers, lr = trial.suggest_int("layers", 2, 8), trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    run = gnnpipe.train(
        synthetic=CORA,
        model="gcnii",
        layers=layers,
        lr=lr,
        epochs=30,
        eval_every=5,
        callbacks=[Pruning(trial)],
    )
    if trial.should_prune():
        raise optuna.TrialPruned
    return run.summary["best_val"]


study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=10),
)
study.optimize(objective, n_trials=4)
for trial in study.trials:
    print(f"{trial.state.name.lower()}: {trial.params}")
