"""What verifying adopted trainers costs over the same two loops run bare, for steps of 10 ms and more."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from benchmarks.paired import interleaved, ratio
from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.harness.verification import adopted

WIDTH, ROWS, STEPS, ROUNDS = 256, 2048, 150, 7

MAPPING = {
    "0.weight": {"to": "w0", "transpose": [1, 0]},
    "0.bias": "b0",
    "2.weight": {"to": "w1", "transpose": [1, 0]},
    "2.bias": "b1",
    "4.weight": {"to": "w2", "transpose": [1, 0]},
    "4.bias": "b2",
}


def model(params, x):
    hidden = jnp.tanh(x @ params["w0"] + params["b0"])
    return jnp.tanh(hidden @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def squared(output, y):
    return jnp.mean((output - y) ** 2)


def bench_verify_against_the_bare_loops(benchmark, stated, quick):
    rng = np.random.default_rng(0)
    steps = 5 if quick else STEPS
    batches = [
        (rng.standard_normal((ROWS, WIDTH), "float32"), rng.standard_normal((ROWS, 1), "float32"))
        for _ in range(steps)
    ]
    torch.manual_seed(0)
    layers = nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)
    module = nn.Sequential(*layers)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    names = {one if isinstance(one, str) else one["to"]: name for name, one in MAPPING.items()}
    params = {theirs: jnp.array(start[ours].numpy().T) for theirs, ours in names.items()}
    transform = optax.sgd(0.01)

    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(lambda p: squared(model(p, x), y))(params)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    def torch_loop():
        module.load_state_dict(start)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
        losses = []
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    def jax_loop():
        now, state, losses = params, transform.init(params), []
        for x, y in batches:
            now, state, loss = step(now, state, x, y)
            losses.append(loss)
        return np.array(losses)

    def bare():
        return torch_loop(), jax_loop()

    sides = [
        pytorch.adopt(module, nn.functional.mse_loss, lambda p: torch.optim.SGD(p, lr=0.01)),
        jax_haiku.adopt(model, squared, transform, params),
    ]

    def verified():
        result = adopted.verify(sides, batches, mapping=MAPPING)
        assert result.verdict is Verdict.AGREE, result.census()
        assert result.cases[0].tolerance.kind == "fixed"  # else twins were trained, which is on demand

        return result.verdict.value

    seconds = interleaved({"verify": verified, "bare": bare}, 2 if quick else ROUNDS)
    each = 1e3 * float(np.median(seconds["bare"])) / steps / 2
    print(f"\n{each:.1f} ms a step of one side", end="")
    median, low, high = ratio(seconds, "verify", "bare")
    print(f"\nverify / bare loops, {steps} steps: {median:.3f} ({low:.3f} to {high:.3f})")
    weights = sum(value.numel() for value in start.values())
    benchmark.group = "adopted"
    stated(
        verdict=verified(),
        bytes=2 * (sum(x.nbytes + y.nbytes for x, y in batches) + steps * 2 * 4 * weights),
        flops=2 * steps * ROWS * 2 * (2 * WIDTH**2 + 3 * (WIDTH**2 + WIDTH)),
        ratio=median,
        quartiles=[low, high],
    )
    benchmark.pedantic(verified, rounds=1)
