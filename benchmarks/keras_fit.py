"""Keras 3 on one backend and our `fit` on the same framework, interleaved; a process of its own: Keras chooses once.

    python -m benchmarks.keras_fit torch 1000

Prints one JSON object: the medians in seconds, and the ratio ours / Keras with its quartiles.
"""

import json
import os
import statistics
import sys

import numpy as np

from benchmarks.fits import ours
from benchmarks.paired import interleaved, ratio, same
from benchmarks.problems import seed


def keras_of(problem):
    """Dense, SGD, squared error summed, in one batch an epoch, as `model.fit` trains it."""
    import keras

    batches, initial = problem.batches(), problem.initial_parameters()
    model = keras.Sequential([keras.Input(problem.x.shape[1:]), keras.layers.Dense(problem.y.shape[1])])
    start = [initial["0.linear/w"], initial["0.linear/b"]]
    rows = len(batches.x)
    model.compile(
        optimizer=keras.optimizers.SGD(problem.optimizer.args["learning_rate"]),
        loss=keras.losses.MeanSquaredError(reduction="sum"),
    )

    def train():
        model.set_weights(start)
        content = model.fit(
            batches.x, batches.y, batch_size=rows, epochs=problem.epochs, shuffle=False, verbose=0
        )
        return (np.array(content.history["loss"]), *model.get_weights())

    return train


def main(name, epochs, rounds):
    os.environ["KERAS_BACKEND"] = name
    problem = seed(epochs).replace(dtype="float32")  # Keras' own
    pair = {"ours": ours(name, problem), "theirs": keras_of(problem)}
    same(pair, 1e-4)
    seconds = interleaved(pair, rounds)
    middle, low, high = ratio(seconds, "ours", "theirs")
    medians = {who: statistics.median(taken) for who, taken in seconds.items()}
    print(json.dumps({"ratio": middle, "quartiles": [low, high], "seconds": medians}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
