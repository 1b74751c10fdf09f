"""An LSTM: torch, and Haiku, whose gates stand in another order.

The mistake: Haiku, as Keras and TensorFlow, adds 1 to the forget gate; torch does not.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from lockstep.backends import jax_haiku, pytorch

FEATURES, HIDDEN = 3, 5


class TorchLstm(torch.nn.Module):
    """The last hidden state, through a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Lstm(hk.Module):
    """The hidden states of all moments: `hk.LSTM`, whose gates are i, g, f, o, with two weights and two biases, as torch has."""

    def __init__(self, forget_bias):
        super().__init__(name="lstm")
        self.forget_bias = forget_bias

    def __call__(self, x):
        def own(name, *shape):
            return hk.get_parameter(name, (*shape, 4 * HIDDEN), x.dtype, hk.initializers.RandomNormal())

        w_i, w_h, b_i, b_h = own("w_i", FEATURES), own("w_h", HIDDEN), own("b_i"), own("b_h")

        def step(carry, x):
            hidden, memory = carry
            i, g, f, o = jnp.split(x @ w_i + b_i + hidden @ w_h + b_h, 4, axis=-1)
            memory = jax.nn.sigmoid(f + self.forget_bias) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
            return (hidden, memory), hidden

        zeros = jnp.zeros((len(x), HIDDEN), x.dtype)
        _, outputs = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)


def original():
    torch.manual_seed(0)
    model = TorchLstm().double()
    return pytorch.adopt(
        model, torch.nn.functional.mse_loss, torch.optim.RMSprop(model.parameters(), lr=1e-3)
    )


def _port(forget_bias, name):
    def model(x):
        return hk.Linear(1, name="head")(Lstm(forget_bias)(x)[:, -1])

    with jax.enable_x64(True):
        transformed = hk.without_apply_rng(hk.transform(model))
        params = transformed.init(jax.random.key(0), jnp.zeros((1, 2, FEATURES), jnp.float64))
    optimizer = optax.rmsprop(1e-3, decay=0.99, eps=1e-8, eps_in_sqrt=False)  # torch's
    return jax_haiku.adopt(transformed, _mean_squared, optimizer, params, name=name)


def _mean_squared(output, y):
    return jnp.mean((output - y) ** 2)


def port():
    return _port(0.0, "haiku")


def wrong_port():
    return _port(1.0, "haiku, its forget bias")


def batches():
    rng = np.random.default_rng(0)
    for _ in range(8):
        x = rng.standard_normal((6, 7, FEATURES))
        yield x, x.sum((1, 2), keepdims=True)[:, 0]
