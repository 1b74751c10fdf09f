"""An LSTM: torch, and a scan in plain JAX whose gates stand in Haiku's order.

The mistake: Haiku, Keras and TensorFlow add 1 to the forget gate; torch does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from backends import jax_haiku, pytorch

FEATURES, HIDDEN = 3, 5


class TorchLstm(torch.nn.Module):
    """The last hidden state, through a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def original():
    torch.manual_seed(0)
    model = TorchLstm().double()
    return pytorch.adopt(
        model, torch.nn.functional.mse_loss, torch.optim.RMSprop(model.parameters(), lr=1e-3)
    )


def _port(forget_bias, name):
    def unrolled(params, x):
        cell = params["lstm"]

        def step(carry, x):
            hidden, memory = carry
            gates = x @ cell["w_i"] + cell["b_i"] + hidden @ cell["w_h"] + cell["b_h"]
            i, g, f, o = jnp.split(gates, 4, axis=-1)
            memory = jax.nn.sigmoid(f + forget_bias) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
            return (hidden, memory), hidden

        zeros = jnp.zeros((len(x), HIDDEN), x.dtype)
        _, outputs = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)

    def model(params, x):
        return unrolled(params, x)[:, -1] @ params["head"]["w"] + params["head"]["b"]

    def stages(params, x):
        return {"lstm": unrolled(params, x), "head": model(params, x)}

    rng = np.random.default_rng(1)
    shapes = {
        "lstm": {"w_i": (FEATURES, 4 * HIDDEN), "w_h": (HIDDEN, 4 * HIDDEN), "b_i": (4 * HIDDEN,), "b_h": (4 * HIDDEN,)},
        "head": {"w": (HIDDEN, 1), "b": (1,)},
    }  # fmt: skip
    params = {
        part: {key: rng.standard_normal(shape) for key, shape in leaves.items()}
        for part, leaves in shapes.items()
    }
    optimizer = optax.rmsprop(1e-3, decay=0.99, eps=1e-8, eps_in_sqrt=False)  # torch's
    return jax_haiku.adopt(model, _mean_squared, optimizer, params, stages=stages, name=name)


def _mean_squared(output, y):
    return jnp.mean((output - y) ** 2)


def port():
    return _port(0.0, "jax")


def wrong_port():
    return _port(1.0, "jax, forget bias")


def batches():
    rng = np.random.default_rng(0)
    for _ in range(8):
        x = rng.standard_normal((6, 7, FEATURES))
        yield x, x.sum((1, 2), keepdims=True)[:, 0]
