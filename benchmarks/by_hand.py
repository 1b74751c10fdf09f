"""The seed's kind of problem, trained by loops that one would write by hand, with no harness around them.

Each maker takes a linear least-squares problem (one ``linear`` layer, squared error summed, plain descent) and gives a
function that trains it from the start and returns losses, weights and bias in NumPy: what `fit` is measured against.
"""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Problem


def _parts(problem: Problem):
    rate = problem.optimizer.args["learning_rate"]
    initial = problem.initial_parameters()
    batches = problem.batches()
    return batches.x, batches.y, initial["0.linear/w"], initial["0.linear/b"], rate, problem.epochs


def notebook(problem: Problem):
    """The notebook's own way in NumPy: functions that return VJPs, per-example gradients, summed in the optimizer."""
    x, y, w0, b0, rate, epochs = _parts(problem)

    def dot_vjp(x, w):
        return lambda u: (np.dot(u, w.T), np.einsum("na,nb->nab", x, u))

    def add_vjp(x, b):
        return lambda u: (u, u)

    def loss_vjp(p, y):
        difference = p - y
        return lambda u: (2 * difference, np.zeros_like(y))

    functions = [
        (np.dot, dot_vjp),
        (np.add, add_vjp),
        (lambda p, y: np.array([np.sum((y - p) ** 2)]), loss_vjp),
    ]

    def train():
        params, losses = [w0, b0, y], []
        for _ in range(epochs):
            values = [x]
            for (f, _), p in zip(functions, params, strict=True):
                values.append(f(values[-1], p))
            u, grads = np.ones_like(values[-1]), []
            for (_, vjp), p, value in reversed(list(zip(functions, params, values, strict=False))):
                u, grad = vjp(value, p)(u)
                grads.insert(0, grad)
            losses.append(values[-1][0])
            updates = [-rate * grad.sum(0) for grad in grads]
            params = [params[0] + updates[0], params[1] + updates[1], y]
        return np.array(losses), params[0], params[1]

    return train


def numpy(problem: Problem):
    """Straight NumPy: residual, loss, two contractions, two updates."""
    x, y, w0, b0, rate, epochs = _parts(problem)

    def train():
        w, b, losses = w0.copy(), b0.copy(), np.empty(epochs, x.dtype)
        for epoch in range(epochs):
            error = x @ w + b - y
            losses[epoch] = np.sum(error * error)
            u = 2 * error
            w -= rate * (x.T @ u)
            b -= rate * u.sum(0)
        return losses, w, b

    return train


def torch(problem: Problem):
    """nn.Linear, torch.optim.SGD, losses kept on the device and read once."""
    import torch as framework

    x, y, w0, b0, rate, epochs = _parts(problem)
    xt, yt = framework.tensor(x), framework.tensor(y)

    def train():
        model = framework.nn.Sequential(framework.nn.Linear(*w0.shape)).to(xt.dtype)
        with framework.no_grad():
            model[0].weight.copy_(framework.tensor(w0.T))
            model[0].bias.copy_(framework.tensor(b0))
        optimizer = framework.optim.SGD(model.parameters(), lr=rate)
        losses = framework.empty(epochs, dtype=xt.dtype)
        for epoch in range(epochs):
            loss = framework.nn.functional.mse_loss(model(xt), yt, reduction="sum")
            loss.backward()
            losses[epoch] = loss.detach()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        weight, bias = (one.detach().numpy().copy() for one in model.parameters())
        return losses.numpy(), weight.T, bias

    return train


def _jax_loss():
    import haiku
    import jax.numpy as jnp

    def forward(x, y):
        error = haiku.Linear(1)(x) - y
        return jnp.sum(error * error)

    return haiku.without_apply_rng(haiku.transform(forward))


def jax_scan(problem: Problem):
    """One jitted scan over the epochs, the parameters donated, one transfer at the end."""
    import jax
    import jax.numpy as jnp
    import optax

    x, y, w0, b0, rate, epochs = _parts(problem)
    model, optimizer = _jax_loss(), optax.sgd(rate)
    with jax.enable_x64(x.dtype == np.float64):
        xt, yt = jnp.array(x), jnp.array(y)

        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(model.apply)(params, xt, yt)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        scan = jax.jit(lambda carry: jax.lax.scan(step, carry, length=epochs), donate_argnums=0)

    def train():
        with jax.enable_x64(x.dtype == np.float64):
            params = {"linear": {"w": jnp.array(w0), "b": jnp.array(b0)}}
            (params, _), losses = scan((params, optimizer.init(params)))
            return np.array(losses), np.array(params["linear"]["w"]), np.array(params["linear"]["b"])

    return train


def jax_notebook(problem: Problem):
    """The notebook's own way in JAX: eager, one operation at a time, the loss read at every epoch."""
    import jax
    import jax.numpy as jnp
    import optax

    x, y, w0, b0, rate, epochs = _parts(problem)
    model, optimizer = _jax_loss(), optax.sgd(rate)

    def train():
        with jax.enable_x64(x.dtype == np.float64):
            xt, yt, losses = jnp.array(x), jnp.array(y), []
            params = {"linear": {"w": jnp.array(w0), "b": jnp.array(b0)}}
            state = optimizer.init(params)
            for _ in range(epochs):
                loss, grads = jax.value_and_grad(model.apply)(params, xt, yt)
                losses.append(float(loss))
                updates, state = optimizer.update(grads, state, params)
                params = optax.apply_updates(params, updates)
            return np.array(losses), np.array(params["linear"]["w"]), np.array(params["linear"]["b"])

    return train


def autograd(problem: Problem):
    """HIPS autograd's value_and_grad over straight NumPy."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    x, y, w0, b0, rate, epochs = _parts(problem)

    def loss_of(params):
        error = anp.dot(x, params[0]) + params[1] - y
        return anp.sum(error * error)

    gradient = value_and_grad(loss_of)

    def train():
        w, b, losses = w0.copy(), b0.copy(), []
        for _ in range(epochs):
            loss, (dw, db) = gradient((w, b))
            losses.append(loss)
            w, b = w - rate * dw, b - rate * db
        return np.array(losses), w, b

    return train
