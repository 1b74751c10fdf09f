"""What whole steps of Keras come to, as JSON: ``python keras_steps.py``, with KERAS_BACKEND set. Keras runs on one backend in a process."""

import json

import keras
import numpy as np

import lockstep
from lockstep.backends.problem import Batch
from lockstep.harness.verification import adopted

RNG = np.random.default_rng(0)
BATCHES = [
    (RNG.standard_normal((8, 4)).astype("float32"), RNG.standard_normal((8, 1)).astype("float32"))
    for _ in range(4)
]


def model(rate=0.05, momentum=0.9, dropped=0.0):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(4, activation="tanh"),
        keras.layers.BatchNormalization(momentum=momentum),
        keras.layers.Dropout(dropped),
        keras.layers.Dense(1),
    ]
    built = keras.Sequential([keras.Input((4,)), *layers])
    built.compile(optimizer=keras.optimizers.SGD(rate, momentum=0.9), loss="mse", metrics=["mae"])
    return built


def side(name, seed=None, **settings):
    own = model(**settings)
    return lockstep.adopt_step(lambda batch: own.train_on_batch(*batch), own, seed=seed, name=name)


def compared(right, left=None):
    (case,) = adopted.verify([left or side("left"), right], BATCHES).cases
    found = case.diagnoses[0] if case.diagnoses else None
    return {
        "verdict": str(case.verdict),
        "first": found and found.first and [found.first.step, found.first.name],
        "explanation": found and found.explanation and found.explanation.name,
    }


def alone():
    """Whether a run has the bare loop's numbers to the bit, and leaves the user's model as it was."""
    own, bare = model(), model()
    before = [np.array(one) for one in own.get_weights()]
    adopted_side = lockstep.adopt_step(lambda batch: own.train_on_batch(*batch), own)
    state, losses, expected = adopted_side.init(), [], []
    for x, y in BATCHES:
        state = adopted_side.write(adopted_side.init(), adopted_side.read(state))  # resumed before every step
        state, loss = adopted_side.step(state, Batch(x, y, {}))
        losses.append(float(loss))
        bare.reset_metrics()
        expected.append(float(bare.train_on_batch(x, y)[0]))
    snapshot = adopted_side.read(state)
    values = {**snapshot.parameters, **snapshot.buffers}
    trained = [values[one.path] for one in own.variables if one.path in values]
    weights = [value for value in bare.get_weights() if value.dtype.kind == "f"]
    return {
        "losses": losses == expected,
        "weights": len(trained) == len(weights) > 0 and all(map(np.array_equal, trained, weights)),
        "untouched": all(map(np.array_equal, own.get_weights(), before)),
        "kinds": sorted({name.partition("/")[0] for name in snapshot.optimizer}),
    }


if __name__ == "__main__":
    found = {
        "alone": alone(),
        "same": compared(side("right")),
        "rate": compared(side("right", rate=0.06)),
        "average": compared(side("right", momentum=0.8)),
        "dropout": compared(side("right", 0, dropped=0.5), side("left", 0, dropped=0.5)),
    }
    print(json.dumps(found))
