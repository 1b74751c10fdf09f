"""Recording and replaying: the same machine agrees with itself to the bit, and what is otherwise is found and placed."""

import dataclasses
import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from lockstep import backends, cli
from lockstep.backends.errors import LockstepError
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Batching, Optimizer, Schedule
from lockstep.harness import bundle
from lockstep.harness.bundle import BundleError
from lockstep.harness.bundle.recording import MACHINE, record
from lockstep.harness.bundle.replaying import replay
from lockstep.harness.bundle.size import numbers_in, size_of
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents.schema import load as schema
from lockstep.harness.problems import find
from lockstep.harness.runs.recorder import RecordedSteps
from tests.conftest import square_problem
from tests.meta import faults
from tests.meta.faults import Broken

FLOAT64 = ["float64"]


class OtherRate(NumPyBackend):
    """Trains with a learning rate that is off by a millionth, under the reference's name."""

    def trainer(self, problem):
        rate = problem.optimizer.args["learning_rate"] * (1 + 1e-6)
        return super().trainer(problem.replace(optimizer=Optimizer("sgd", learning_rate=rate)))


def shuffled():
    return square_problem(
        name="shuffled",
        batching=Batching(5, shuffle=3),
        optimizer=Optimizer("adam", learning_rate=0.05),
        schedule=Schedule("exponential", factor=0.9),
        epochs=4,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it.lockstep.npz"


def recorded(path, problem, names=("numpy",), **options):
    options = {"dtypes": FLOAT64, "parameters_at": [0, 3, "last"], "stages_at": [1, "last"], **options}
    return record(path, problem, backends=names, **options)


def verdicts(result):
    return {one.quantity: one.verdict for one in result.comparisons}


def test_every_backend_agrees_with_what_it_recorded_to_the_bit(path):
    recorded(path, shuffled(), [*backends.entries()])
    result = replay(path)
    assert result.verdict is Verdict.AGREE, result.census()
    pairs = {(one.left, one.right) for one in result.comparisons}
    assert pairs == {(f"{name} (recorded)", name) for name in backends.entries()}
    found = verdicts(result)
    assert {
        "inputs",
        "loss",
        "0.linear/w",
        "0.linear/w after 3 steps",
        "stages of step 1",
        "stages of step 11",
    } <= set(found)
    assert max(one.differing for one in result.comparisons) == 0
    (case,) = result.cases
    assert {one.sentence for one in case.diagnoses} == {
        "computed from the recorded state, all recorded stages of steps 1, 11 agree"
    }
    assert max(row.absolute for one in case.diagnoses for row in one.ledger.rows) == 0


def test_another_backend_agrees_within_the_budget(path):
    recorded(
        path,
        [shuffled(), find("batch-norm").replace(epochs=4)],
        parameters_at=[3],
        stages_at=(),
        dtypes=["float64", "float32"],
    )
    result = replay(path, backends=["torch"])
    assert result.verdict is Verdict.AGREE, result.census()
    assert {one.right for one in result.comparisons} == {"torch"}
    assert max(one.differing for one in result.comparisons) > 0
    assert {one.tolerance.kind for one in result.comparisons if one.quantity.endswith(" after 3 steps")} == {
        "budget"
    }
    assert "evaluation" in verdicts(result)


def test_a_run_by_fit_is_replayed_by_fit(path):
    held = record(path, shuffled(), backends=["jax"], dtypes=FLOAT64)
    assert not held.runs[0].stepwise
    assert max(one.differing for one in replay(path).comparisons) == 0


def test_another_learning_rate_is_found_and_placed(path):
    recorded(path, find("seed"), stages_at=[1, 4])
    result = replay(path, backends=[OtherRate()])
    assert result.verdict is Verdict.DIFFER
    found = verdicts(result)
    assert found["inputs"] is found["0.linear/w after 0 steps"] is Verdict.AGREE
    assert found["loss"] is found["0.linear/w after 3 steps"] is found["stages of step 4"] is Verdict.DIFFER
    (content,) = result.cases[0].diagnoses
    assert content.kind == "local"
    assert content.first.name == "update/0.linear/b"
    assert content.first.step == 1
    assert "numpy first diverges from the recording at step 1, in the whole run's loss: " in content.sentence
    assert (
        "computed from the recorded state of step 1, the update of 0.linear/b at [0] differs: "
        in content.sentence
    )


def altered(held, change):
    """A bundle whose one run is another, and whose hashes are right."""
    return dataclasses.replace(held, runs=(change(held.runs[0]),))


def with_loss(step, factor):
    def change(one):
        losses = one.run.trace.losses.copy()
        losses[step] *= factor
        return dataclasses.replace(
            one, run=dataclasses.replace(one.run, trace=dataclasses.replace(one.run.trace, losses=losses))
        )

    return change


def test_one_altered_loss_is_found_at_its_step(path):
    held = recorded(path, find("seed"), stages_at=(), parameters_at=())
    bundle.save(path, altered(held, with_loss(7, 1 + 1e-12)))
    result = replay(path)
    assert result.verdict is Verdict.DIFFER
    loss = next(one for one in result.comparisons if one.quantity == "loss")
    assert (loss.first_failing, loss.failing) == ((7,), 1)
    assert loss.reason == "beyond tolerance first at epoch 7"
    (content,) = result.cases[0].diagnoses
    assert (content.kind, content.first.step) == ("not judged", 7)
    assert replay(path, rtol=1e-9).verdict is Verdict.AGREE
    assert replay(path, tolerance="fixed").verdict is Verdict.DIFFER


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("parameters", "0.linear/w", "at step 3, in the whole run's 0.linear/w after 3 steps at [0, 1]"),
        (
            "stages",
            "forward/0.linear",
            "the recorded state of step 1, the output of 0.linear at [0, 1] differs",
        ),
        (
            "stages",
            "gradient/1.dot/w",
            "the recorded state of step 1, the gradient of 1.dot/w at [0, 1] differs",
        ),
        (
            "stages",
            "state/optimizer/square/0.linear/w",
            "the recorded state of step 1, the optimizer's square/0.linear/w at [0, 1] differs",
        ),
    ],
)
def test_one_altered_number_is_found_where_it_is(path, kind, name, words):
    held = recorded(path, shuffled(), parameters_at=[3], stages_at=[1])

    def change(one):
        (step,) = getattr(one, kind)
        arrays = {key: value.copy() for key, value in getattr(one, kind)[step].items()}
        arrays[name][0, 1] *= 1 + 1e-4
        return dataclasses.replace(one, **{kind: {step: arrays}})

    result = replay(altered(held, change))
    assert result.verdict is Verdict.DIFFER
    (content,) = result.cases[0].diagnoses
    assert words in content.sentence


def test_a_stage_that_is_missing_or_of_another_shape_differs(path):
    held = recorded(path, shuffled(), parameters_at=(), stages_at=[1])

    def replayed(change):
        def changed(one):
            return dataclasses.replace(one, stages={1: change(dict(one.stages[1]))})

        return verdicts(replay(altered(held, changed)))["stages of step 1"]

    def without(stages):
        del stages["cotangent/1.dot"]
        return stages

    assert replayed(lambda stages: stages) is Verdict.AGREE
    assert replayed(without) is Verdict.DIFFER
    assert replayed(lambda stages: {**stages, "loss": np.zeros(2)}) is Verdict.DIFFER
    misfit = {"state/parameters/0.linear/w": np.zeros((7, 7))}
    assert replayed(lambda stages: {**stages, **misfit}) is Verdict.ERROR


@pytest.mark.parametrize(
    "fault", [faults.SignFlipped, faults.StaleGradient, faults.OtherOrder, faults.OneEpochShort]
)
def test_a_fault_on_either_side_differs(path, fault):
    problem = shuffled().replace(
        optimizer=Optimizer("sgd", learning_rate=0.05), schedule=Schedule("constant")
    )
    record(path, problem, backends=["numpy"], dtypes=FLOAT64)
    assert replay(path, backends=[Broken(fault)]).verdict is Verdict.DIFFER
    if fault is faults.OneEpochShort:
        with pytest.raises(BundleError, match="another number of steps than"):
            record(path, problem, backends=[Broken(fault)], dtypes=FLOAT64)
        return
    record(path, problem, backends=[Broken(fault)], dtypes=FLOAT64)
    assert replay(path, backends=["numpy"]).verdict is Verdict.DIFFER


def test_other_batches_are_found_by_their_hash(path, monkeypatch):
    """As of a NumPy that deals the rows otherwise: data and parameters are the same."""
    recorded(path, shuffled(), stages_at=(), parameters_at=())
    monkeypatch.setattr(Batching, "order", lambda self, rows, epoch: np.arange(rows)[::-1])
    result = replay(path)
    inputs = next(one for one in result.comparisons if one.quantity == "inputs")
    assert inputs.verdict is Verdict.DIFFER
    assert "numpy (recorded): batches: other values than the problem's" in inputs.reason


def test_a_diverging_run_is_recorded_and_never_agrees(path):
    problem = find("seed").replace(optimizer=Optimizer("sgd", learning_rate=1e6), epochs=300)
    recorded(path, problem, stages_at=[0, "last"])
    result = replay(path)
    assert result.verdict in (Verdict.ERROR, Verdict.DIFFER, Verdict.INCONCLUSIVE)


def test_without_data_the_problem_is_asked_for_and_checked(path):
    problem = shuffled()
    held = recorded(path, problem, data=False, machine=False)
    assert held.problems[0].problem is None
    assert not set(MACHINE) & set(held.environment)
    other = {"x": problem.x * 2}, {"epochs": 7}
    with pytest.raises(BundleError, match="holds only hashes of the data of problem 'shuffled'"):
        replay(path)
    assert replay(path, problems=[problem]).verdict is Verdict.AGREE
    assert replay(path, problems=[problem.replace(**other[1])]).verdict is Verdict.AGREE, (
        "the bundle says how long"
    )
    assert verdicts(replay(path, problems=[problem.replace(**other[0])]))["inputs"] is Verdict.DIFFER
    with pytest.raises(BundleError, match="it differs in optimizer"):
        replay(path, problems=[problem.replace(optimizer=Optimizer("adam", learning_rate=0.06))])
    with pytest.raises(BundleError, match="of no such problem"):
        replay(path, problems=["seed"])
    with pytest.raises(BundleError, match="another number of steps"):
        replay(path, problems=[problem.replace(x=problem.x[:-2], y=problem.y[:-2])])


def test_what_cannot_be_recorded_is_refused_before_anything_trains(path, monkeypatch):
    def train(*arguments, **options):
        raise AssertionError("it trained")

    monkeypatch.setattr("lockstep.harness.bundle.record_run.free_run", train)
    for options, words in (
        ({"backends": ["nump"]}, "did you mean 'numpy'"),
        ({"problems": "sede"}, "did you mean 'seed'"),
        ({"dtypes": ["float16"]}, "dtype is not offered"),
        ({"stages_at": [10]}, "stages-at: not a step of 'seed'"),
        ({"parameters_at": [11]}, "give 0 to 10, or 'last'"),
        ({"parameters_at": ["soon"]}, "not a step"),
        ({"parameters_at": [-1]}, "not a step"),
        ({"max_size": 500}, "the bundle would be larger than was allowed"),
        ({"problems": "tall", "max_size": 20_000_000}, "24,000,024 of them data"),
        ({"out": path / "below" / "it"}, "output folder cannot be written"),
    ):
        path.write_text("before")
        given = {"out": path, "problems": "seed", "backends": ["numpy"], **options}
        with pytest.raises(LockstepError, match=words):
            record(given.pop("out"), given.pop("problems"), **given)
    assert path.read_text() == "before"


def test_a_backend_that_fails_leaves_nothing(path):
    class Fails(NumPyBackend):
        def trainer(self, problem):
            raise RuntimeError("out of luck")

    with pytest.raises(BundleError, match="RuntimeError: out of luck"):
        record(path, "seed", backends=[Fails()])
    assert not path.exists()


def test_an_absent_framework_is_skipped_and_a_foreign_backend_is_named(path, monkeypatch):
    held = recorded(path, find("seed"), ["torch"], stages_at=(), parameters_at=())
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"] if name == "torch" else [])
    result = replay(path)
    assert result.verdict is Verdict.SKIPPED
    assert result.runs[1].fix == 'pip install "torch>=2.6"'
    foreign = altered(
        held, lambda one: dataclasses.replace(one, run=dataclasses.replace(one.run, backend="mlx"))
    )
    with pytest.raises(LockstepError, match="not registered here\n  got: 'mlx'"):
        replay(foreign)
    assert replay(foreign, backends=["numpy"]).verdict is Verdict.AGREE


@pytest.mark.parametrize("name", ["adam", "batch-norm", "minibatches", "residual-mlp", "averaged"])
def test_the_size_is_known_before_the_run(path, name):
    """To a fifth, of what is large: names and headers are not counted."""
    wide = find(name).replace(epochs=4)
    steps = RecordedSteps((0, 3), (1, 2))
    held = record(path, wide, backends=["numpy"], dtypes=FLOAT64, parameters_at=[0, 3], stages_at=[1, 2])
    (one,) = held.runs
    arrays = [*one.parameters.values(), *one.stages.values(), {"losses": one.run.trace.losses}]
    arrays += [one.run.trace.final.parameters, one.run.trace.final.optimizer]
    numbers = sum(value.nbytes for part in arrays for value in part.values())
    assert 0.8 < numbers_in(wide, steps) / numbers < 1.25


def test_sizes_are_read_as_they_are_written():
    assert [size_of(one) for one in ("64MB", "1.5 GB", "500kB", "7")] == [
        64_000_000,
        1_500_000_000,
        500_000,
        7,
    ]
    for wrong in ("", "many", "-1MB", "1TB", "nan"):
        with pytest.raises(LockstepError, match="it is not a size"):
            size_of(wrong)


def test_looking_at_a_run_does_not_move_it(path):
    plain = record(path, shuffled(), backends=["torch"], dtypes=FLOAT64, parameters_at=[0])
    observed = recorded(path, shuffled(), ["torch"], parameters_at=range(12), stages_at=range(12))
    left, right = (one.runs[0].run.trace for one in (plain, observed))
    assert left.losses.tobytes() == right.losses.tobytes()
    assert all(
        value.tobytes() == right.final.parameters[name].tobytes()
        for name, value in left.final.parameters.items()
    )


@pytest.fixture
def run(in_one_process, capsys):
    """Runs a command in this process and gives its status, stdout and stderr."""

    def run(*arguments):
        status = cli.main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_commands_record_and_replay(run, path, tmp_path, monkeypatch):
    status, out, err = run(
        *("record", path, "seed", "--backend", "numpy", "--dtype", "float64"),
        *("--parameters-at", "0,5,last", "--stages-at", "1,last"),
    )
    assert (status, err) == (0, "")
    assert (
        out
        == "seed float64 numpy: 10 losses, the last state, parameters after 0, 5, 10 steps, stages of step 1, 9\n"
    )
    status, out, err = run("replay", path)
    assert (status, err) == (0, "")
    assert "seed float64  AGREE" in out
    assert "numpy (recorded) / numpy  0.linear/w after 5 steps   AGREE" in out
    assert "all recorded stages of steps 1, 9 agree" in out
    assert "the environment is the one that it.lockstep.npz was recorded in" in out
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    status, out, err = run("replay", path, "--json", tmp_path / "it.json", "--output", tmp_path / "all")
    assert status == 0
    assert "thread_variables: OMP_NUM_THREADS  None                1" in out
    content = json.loads((tmp_path / "it.json").read_text())
    Draft202012Validator(schema("report")).validate(content)
    assert content["command"] == f"lockstep replay {path}"
    assert content["recorded"]["changes"] == [["thread_variables: OMP_NUM_THREADS", "None", "1"]]
    assert (
        "| thread\\_variables: OMP\\_NUM\\_THREADS | None | 1 |"
        in (tmp_path / "all" / "parity.md").read_text()
    )


def test_the_commands_tell_a_difference_and_bad_input_by_their_status(run, path):
    held = recorded(path, find("seed"))
    bundle.save(path, altered(held, with_loss(7, 1.01)))
    status, out, _ = run("replay", path, "--quiet")
    assert (status, out.split()[0]) == (1, "DIFFER")
    path.write_bytes(path.read_bytes()[:-100])
    status, out, err = run("replay", path)
    assert (status, out) == (2, "")
    assert "it is truncated" in err
    for arguments, words in (
        (["record", path, "seed", "--max-size", "much"], "it is not a size"),
        (["record", path, "seed", "--backend", "numpy", "--stages-at", "1,soon"], "'soon'"),
        (["replay", path.parent / "none"], "cannot be read"),
        (["replay", path, "--rtol", "2"], "truncated"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert words in err


def test_the_same_run_gives_the_same_bytes(path):
    first, second = (bundle.to_bytes(recorded(path, shuffled(), ["numpy", "torch"])) for _ in range(2))
    assert first == second
