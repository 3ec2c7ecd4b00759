"""Search for a depth, a learning rate and a dropout with Optuna: pip install optuna, then run this file."""

import gnnpipe
import optuna

CORA = {"num_nodes": 2708, "avg_degree": 4, "num_classes": 7, "num_features": 1433, "noise": 15}


def objective(trial: optuna.Trial) -> float:
    layers, lr = trial.suggest_int("layers", 2, 8), trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.7)
    run = gnnpipe.train(synthetic=CORA, model="gcnii", layers=layers, lr=lr, dropout=dropout, epochs=30)
    return run.summary["best_val"]


study = optuna.create_study(direction="maximize")
study.optimize(objective, n_trials=4)
print(f"best validation accuracy {study.best_value:.4f} with {study.best_params}")
