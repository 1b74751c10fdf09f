"""Problem files: every form that is read, and every fault with the line or the field in its message."""

import io
import pickle
import sys
import tomllib
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.problem import UNAVERAGED, Average, Optimizer, Penalty, Schedule
from lockstep.harness.problems.file import read

GOOD = """
name = "mine"
epochs = 3
data = { x = [[1, 2], [3, 4], [5, 6.5]], y = [1, 2, 3] }
model = [{ op = "linear", size = 1 }]
loss = { name = "squared_error" }
optimizer = { name = "sgd", learning_rate = 0.01 }
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def with_data(data):
    return GOOD.replace("{ x = [[1, 2], [3, 4], [5, 6.5]], y = [1, 2, 3] }", data)


X, Y = np.array([[1, 2], [3, 4], [5, 6.5]]), np.array([[1.0], [2.0], [3.0]])


def save_npy(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y[:, 0])
    return '{ x = "x.npy", y = "y.npy" }'


def save_npz(folder):
    np.savez(folder / "d.npz", inputs=X, targets=Y)
    return '{ file = "d.npz", x = "inputs", y = "targets" }'


def save_csv(folder):
    (folder / "d.csv").write_text("\ufeffa, b,t,note\n1,2,1,x\n3,4,2,y\n\n5,6.5,3,z\n", encoding="utf-8")
    return '{ file = "d.csv", x = ["a", "b"], y = "t" }'


@pytest.mark.parametrize(
    "save", [lambda folder: "{ x = [[1, 2], [3, 4], [5, 6.5]], y = [1, 2, 3] }", save_npy, save_npz, save_csv]
)
def test_every_form_of_data(write, tmp_path, save):
    problem = read(write(with_data(save(tmp_path))))
    np.testing.assert_array_equal(problem.x, X)
    np.testing.assert_array_equal(problem.y, Y)
    assert (problem.name, problem.epochs) == ("mine", 3)
    assert problem.loss.args == {"reduction": "mean"}


def test_initial_parameters_are_drawn_from_the_seed_or_given(write):
    drawn = [
        read(write(GOOD + extra)).initial
        for extra in ("", "initial = { seed = 0 }", "initial = { seed = 1 }")
    ]
    np.testing.assert_array_equal(drawn[0]["0.linear/w"], drawn[1]["0.linear/w"])
    assert (drawn[0]["0.linear/w"] != drawn[2]["0.linear/w"]).all()
    np.testing.assert_array_equal(drawn[0]["0.linear/b"], [0.0])
    part = read(write(GOOD + 'initial = { "0.linear/b" = [7] }')).initial
    np.testing.assert_array_equal(part["0.linear/b"], [7.0])
    np.testing.assert_array_equal(part["0.linear/w"], drawn[0]["0.linear/w"])


def test_penalties_accumulation_and_average_are_read_or_left_out(write):
    plain = read(write(GOOD))
    assert (plain.penalties, plain.accumulation, plain.average) == ((), 1, UNAVERAGED)
    found = read(write(GOOD + SURROUNDED))
    assert found.penalties == (Penalty("l1", weight=0.1), Penalty("l2", weight=1.0, parameters="all"))
    assert (found.accumulation, found.average) == (2, Average("ema", decay=0.9, debias=True))


SURROUNDED = """
penalties = [{ name = "l1", weight = 0.1 }, { name = "l2", weight = 1, parameters = "all" }]
accumulation = 2
average = { name = "ema", decay = 0.9, debias = true }
"""

FAULTS = {
    "not toml": (GOOD.replace("epochs = 3", "epochs = ?"), "is not TOML", "line 3"),
    "endless number": (GOOD.replace("epochs = 3", "epochs = " + "1" * 5000), "is not TOML", "digits"),
    "float epochs": (GOOD.replace("epochs = 3", "epochs = 3.0"), "epochs: is not valid (type)", "3.0"),
    "float size": (GOOD.replace("size = 1", "size = 1.0"), "model.0.size: is not valid (type)", "an int >= 1"),
    "size beyond memory": (GOOD.replace("size = 1", f"size = {10**17}"), "more than an array can hold", "smaller"),
    "size beyond shapes": (GOOD.replace("size = 1", f"size = {10**30}"), "more than an array can hold", "smaller"),
    "lost field": (GOOD.replace("epochs = 3\n", ""), "top level: lacks epochs", "it takes"),
    "unknown field": (GOOD + "epoch = 3\n", "does not take epoch", "epochs"),
    "wrong type": (GOOD.replace("epochs = 3", 'epochs = "3"'), "epochs: is not valid (type)", "passes over the data"),
    "zero epochs": (GOOD.replace("epochs = 3", "epochs = 0"), "epochs: is not valid", "1 or more"),
    "negative epochs": (GOOD.replace("epochs = 3", "epochs = -3"), "epochs: is not valid", "-3"),
    "empty name": (GOOD.replace('"mine"', '""'), "name: is not valid", "''"),
    "blank name": (GOOD.replace('"mine"', '" "'), "name must say something", "' '"),
    "unknown op": (GOOD.replace('"linear"', '"liner"'), "model.0.op: is not valid", "'linear'"),
    "unknown loss": (GOOD.replace('"squared_error"', '"l2"'), "loss.name: is not valid", "'squared_error'"),
    "unknown optimizer": (GOOD.replace('"sgd"', '"gsd"'), "optimizer.name: is not valid", "'sgd'"),
    "unknown argument": (GOOD.replace("size = 1", "size = 1, bias = false"), "model.0: does not take bias", "size"),
    "lost argument": (GOOD.replace(", learning_rate = 0.01", ""), "optimizer: lacks learning_rate", "it takes"),
    "zero rate": (GOOD.replace("0.01", "0.0"), "optimizer.learning_rate", "a float > 0"),
    "negative rate": (GOOD.replace("0.01", "-1"), "optimizer.learning_rate", "-1"),
    "nan rate": (GOOD.replace("0.01", "nan"), "learning_rate is out of range", "nan"),
    "infinite rate": (GOOD.replace("0.01", "inf"), "learning_rate is out of range", "inf"),
    "penalty": (GOOD + 'penalties = [{ name = "l3" }]', "penalties.0.name: is not valid", "'l1', 'l2'"),
    "one penalty": (GOOD + 'penalties = { name = "l1", weight = 1 }', "penalties: is not valid (type)", "a list"),
    "negative weight": (GOOD + 'penalties = [{ name = "l1", weight = -1 }]', "penalties.0.weight", "a float >= 0"),
    "no accumulation": (GOOD + "accumulation = 0", "accumulation: is not valid", "an int >= 1"),
    "accumulation": (GOOD + "accumulation = 4", "nothing would be updated", "3 batches in all"),
    "average": (GOOD + 'average = { name = "ema", decay = 1.0 }', "average.decay", "and < 1"),
    "lost decay": (GOOD + 'average = { name = "ema" }', "average: lacks decay", "debias"),
    "no layers": (GOOD.replace('[{ op = "linear", size = 1 }]', "[]"), "model: is not valid", "the layers"),
    "zero size": (GOOD.replace("size = 1", "size = 0"), "model.0.size", "an int >= 1"),
    "size off": (GOOD.replace("size = 1", "size = 2"), "output and y differ in shape", "(2,) and (1,)"),
    "ragged": (GOOD.replace("[3, 4]", "[3]"), "data.x is ragged", "row 1 has 1 values, row 0 has 2"),
    "a number among rows": (with_data("{ x = [1, [2]], y = [1, 2] }"), "data.x is ragged", "[1, [2]]"),
    "ragged further in": (with_data("{ x = [[[1], [2]], [[3], [4, 5]]], y = [1, 2] }"), "data.x is ragged", "[4, 5]"),
    "deep": (with_data(f"{{ x = {'[' * 300}{']' * 300}, y = [1] }}"), "nested too deeply", "rows of numbers"),
    "too deep to parse": (with_data(f"{{ x = {'[' * 30000}{']' * 30000}, y = [1] }}"), "is not TOML", "recursion"),
    "empty": (with_data("{ x = [], y = [] }"), "x is empty", "shape (0,"),
    "words": (with_data('{ x = [["a"], ["b"]], y = [1, 2] }'), "data.x", "give"),
    "columns without a file": (with_data('{ x = ["a"], y = ["b"] }'), "data.x is not numeric", "`file`"),
    "nan": (GOOD.replace("6.5", "nan"), "x is not finite", "nan at index (2, 1)"),
    "infinity": (GOOD.replace("[1, 2, 3]", "[1, -inf, 3]"), "y is not finite", "-inf at index (1, 0)"),
    "lengths": (GOOD.replace("[1, 2, 3]", "[1, 2]"), "x and y differ in length", "3 rows of x, 2 of y"),
    "initial name": (GOOD + 'initial = { "0.linear/c" = [1] }', "initial parameters are not", "unknown: 0.linear/c"),
    "initial shape": (GOOD + 'initial = { "0.linear/b" = [1, 2] }', "'0.linear/b' has the wrong shape", "(2,)"),
    "initial words": (GOOD + 'initial = { "0.linear/b" = "one" }', "initial.0.linear/b", "'one'"),
    "seed": (GOOD + "initial = { seed = -1 }", "initial.seed", "an int >= 0"),
    "float seed": (GOOD + "initial = { seed = 1.0 }", "initial.seed: is not valid (type)", "an int >= 0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_in_three_parts(write, fault):
    text, what, words = FAULTS[fault]
    path = write(text)
    with pytest.raises(ProblemError) as caught:
        read(path)
    assert str(path) in caught.value.what
    assert what in str(caught.value)
    assert words in str(caught.value)
    assert all((caught.value.what, caught.value.got, caught.value.fix))


@pytest.fixture
def deep_stack():
    """As some libraries leave it behind."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20 * before)
    yield
    sys.setrecursionlimit(before)


def test_the_depth_that_is_refused_is_not_that_of_the_stack(write, deep_stack):
    test_every_fault_is_named_in_three_parts(write, "deep")


class Runs:
    """Pickled, it would run code when loaded."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def archive(**members):
    buffer = io.BytesIO()
    np.savez(buffer, **members)
    return buffer.getvalue()


def array(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return buffer.getvalue()


ARCHIVE = archive(a=X, t=Y)
FILES = {
    "no file": ("d.csv", None, "No such file"),
    "no npz": ("d.npz", None, "No such file"),
    "a bad cell": ("d.csv", b"a,t\n1,2\n3,four\n", "line 3, column 't': not a number"),
    "an underscore": ("d.csv", b"a,t\n1,2\n3,1_0\n", "line 3, column 't': not a number"),
    "a bad cell after lines in cells": ("d.csv", b'"a\n",t\n"1\n",2\nx,3\n', "line 5, column 'a\\n': not a number"),
    "an empty cell": ("d.csv", b"a,t\n1,\n", "line 2, column 't': not a number"),
    "nan in a cell": ("d.csv", b"a,t\n1,2\nnan,3\n", "nan at index (1, 0)"),
    "a short line": ("d.csv", b"a,t\n1\n", "line 2: ragged"),
    "a long line": ("d.csv", b"a,t\n1,2\n\n1,2,3\n", "line 4: ragged"),
    "no such column": ("d.csv", b"b,t\n1,2\n", "names no column of d.csv"),
    "two such columns": ("d.csv", b"a,a,t\n1,2,3\n", "names several columns"),
    "no rows": ("d.csv", b"a,t\n", "x is empty"),
    "nothing": ("d.csv", b"", "is not a table"),
    "not text": ("d.csv", b"\xff\xfe\x00a", "is not a table"),
    "not an archive": ("d.npz", b"hello", "is not a NumPy file"),
    "an empty file": ("d.npz", b"", "is not a NumPy file"),
    "an archive cut early": ("d.npz", ARCHIVE[:60], "is not a NumPy file"),
    "an archive cut late": ("d.npz", ARCHIVE[:-30], "is not a NumPy file"),
    "an encrypted archive": ("d.npz", ARCHIVE.replace(b"PK\1\2\x2d\3\x2d\0\0", b"PK\1\2\x2d\3\x2d\0\1"), "encrypted"),
    "texts in an archive": ("d.npz", zipped(a="1 2", t="3"), "names no array of d.npz"),
    "a text": ("d.npy", b"1 2\n3 4\n", "is not a NumPy file"),
    "a cut array": ("d.npy", array(X)[:-8], "is not a NumPy file"),
    "a header cut open": ("d.npy", array(X).replace(b"}", b"{"), "is not a NumPy file"),
    "an array of words": ("d.npy", array(["a", "b", "c"]), "x is not a rectangular array of real numbers"),
    "no npy": ("d.npy", None, "No such file"),
    "a folder as csv": ("d.csv", ..., "Is a directory"),
    "a folder as npz": ("d.npz", ..., "Is a directory"),
    "a folder as npy": ("d.npy", ..., "Is a directory"),
}  # fmt: skip


def of_file(name):
    return '{ x = "d.npy", y = "d.npy" }' if name == "d.npy" else f'{{ file = "{name}", x = "a", y = "t" }}'


@pytest.mark.parametrize("fault", FILES)
def test_every_fault_of_a_data_file(write, tmp_path, fault):
    name, content, words = FILES[fault]
    if content is ...:
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    path = write(with_data(of_file(name)))
    with pytest.raises(ProblemError) as caught:
        read(path)
    assert caught.value.what.startswith(f"{path}: ")
    assert words in str(caught.value)
    # Values are checked after reading, when the field stands for the file.
    assert name in str(caught.value) or caught.value.what.startswith(f"{path}: x is ")
    assert all((caught.value.got, caught.value.fix))


def test_pickled_objects_are_refused(write, tmp_path):
    for name, content in (("x.npy", Runs()), ("y.npy", Runs())):
        np.save(tmp_path / name, np.array([content], dtype=object), allow_pickle=True)
    with pytest.raises(ProblemError, match="not a NumPy file"):
        read(write(with_data('{ x = "x.npy", y = "y.npy" }')))
    (tmp_path / "x.npy").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ProblemError, match="not a NumPy file"):
        read(write(with_data('{ x = "x.npy", y = "y.npy" }')))


def test_pickles_inside_an_archive_are_refused(write, tmp_path):
    np.savez(tmp_path / "d.npz", a=np.array([Runs()], dtype=object), t=Y)
    with pytest.raises(ProblemError, match="not a NumPy file"):
        read(write(with_data('{ file = "d.npz", x = "a", y = "t" }')))


def test_an_unknown_array_of_an_archive(write, tmp_path):
    np.savez(tmp_path / "d.npz", inputs=X)
    with pytest.raises(ProblemError, match="use one of 'inputs'"):
        read(write(with_data('{ file = "d.npz", x = "inputs", y = "targets" }')))


def test_one_array_where_an_archive_is_meant_and_the_other_way_round(write, tmp_path):
    save_npy(tmp_path), save_npz(tmp_path)
    with pytest.raises(ProblemError, match="without `file`"):
        read(write(with_data('{ file = "x.npy", x = "x", y = "y" }')))
    with pytest.raises(ProblemError, match="name the archive as `file`"):
        read(write(with_data('{ x = "d.npz", y = "d.npz" }')))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ProblemError, match="cannot be read"):
        read(tmp_path / "none.toml")
    with pytest.raises(ProblemError, match="cannot be read"):
        read(tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(max_size=8))
def test_damaged_files_give_our_errors_only(write, start, length, put):
    path = write("")
    path.write_text(GOOD[:start] + put + GOOD[start + length :], encoding="utf-8", errors="surrogatepass")
    try:
        problem = read(path)
    except LockstepError as error:
        complete = bool(error.what and error.got and error.fix)
        assert complete
    else:
        assert problem.name == tomllib.loads(path.read_text(encoding="utf-8"))["name"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["d.npy", "d.npz"]), st.floats(0, 1), st.binary(max_size=3), st.integers(0, 40))
def test_damaged_data_files_give_our_errors_only(write, tmp_path, name, where, put, cut):
    good = array(X[:, :1]) if name == "d.npy" else ARCHIVE
    start = int(where * len(good))
    (tmp_path / name).write_bytes(good[:start] + put + good[start + cut :])
    path = write(with_data(of_file(name)))
    try:
        problem = read(path)
    except LockstepError as error:
        named = str(path) in error.what and bool(error.got and error.fix)
        assert named
    else:
        assert problem.epochs == 3


def test_batching_and_schedule_are_read(write):
    extra = 'batching = { size = 2, shuffle = 1, keep_last = false }\nschedule = { name = "step", steps = 2, factor = 0.5 }\n'
    problem = read(write(GOOD + extra))
    assert (problem.batching.size, problem.batching.shuffle, problem.batching.keep_last) == (2, 1, False)
    assert (problem.schedule.name, dict(problem.schedule.args)) == ("step", {"steps": 2, "factor": 0.5})
    with pytest.raises(ProblemError, match="3 rows"):
        read(write(GOOD + "batching = { size = 4 }"))
    with pytest.raises(ProblemError, match="lacks factor"):
        read(write(GOOD + 'schedule = { name = "step", steps = 2 }'))


def test_branches_are_read_and_faults_inside_them_are_named(write):
    text = """
        name = "deep"
        epochs = 2
        data = {{ x = [[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]], y = [1.0, 2.0, 3.0] }}
        model = [
          {{ op = "residual", branches = [[{{ op = "tanh" }}, {{ op = "linear", size = {size} }}], []] }},
          {{ op = "linear", size = 1 }},
        ]
        loss = {{ name = "squared_error" }}
        optimizer = {{ name = "sgd", learning_rate = 0.1 }}
    """
    problem = read(write(text.format(size=2)))
    assert "0.residual/0/1.linear/w" in problem.initial
    with pytest.raises(ProblemError, match=r"branches of layer '0.residual' do not go together"):
        read(write(text.format(size=3)))
    with pytest.raises(ProblemError, match=r"model.0.branches.0.1.size: is not valid"):
        read(write(text.format(size='"two"')))
    without = text.replace(", branches = [[", ", x = [[").format(size=2)
    with pytest.raises(ProblemError, match=r"model.0: (lacks branches|does not take x)"):
        read(write(without))


def with_optimizer(text):
    lines = [f"optimizer = {text}" if line.startswith("optimizer") else line for line in GOOD.splitlines()]
    return "\n".join(lines) + "\n"


def test_presets_and_lists_are_read(write):
    problem = read(write(with_optimizer('{ name = "adamw", preset = "optax", learning_rate = 0.1 }')))
    assert problem.optimizer == Optimizer("adamw", learning_rate=0.1, weight_decay=1e-4)
    problem = read(write(with_optimizer('{ name = "adam", preset = "torch" }')))
    assert problem.optimizer.args["learning_rate"] == 1e-3
    extra = 'schedule = { name = "piecewise", boundaries = [2, 5], factors = [0.5, 1] }\n'
    problem = read(write(GOOD + extra))
    assert problem.schedule == Schedule("piecewise", boundaries=[2, 5], factors=[0.5, 1.0])


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (
            '{ name = "adam" }',
            r"optimizer: lacks learning_rate\n.*\n.*it takes learning_rate \(η; a float > 0\)",
        ),
        ('{ name = "adam", preset = "optax" }', "lacks 'learning_rate'"),
        ('{ name = "adam", preset = "keras" }', "optimizer.preset.*\n.*keras.*\n.*'torch', 'optax'"),
        ('{ name = "lion", preset = "torch" }', "optimizer.preset.*\n.*torch.*\n.*'optax'"),
        ('{ name = "adam", preset = 1 }', "optimizer.preset"),
    ],
)
def test_bad_presets_are_refused(write, optimizer, words):
    with pytest.raises(ProblemError, match=words):
        read(write(with_optimizer(optimizer)))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("boundaries = 3, factors = [1]", "schedule.boundaries.*\n.*\n.*one or more of int >= 1"),
        ("boundaries = [], factors = []", "minItems"),
        ("boundaries = [2, 0], factors = [1, 1]", "schedule.boundaries.1.*minimum"),
        ("boundaries = [3, 2], factors = [1, 1]", "the boundaries must increase"),
        ("boundaries = [3]", "lacks factors"),
    ],
)
def test_bad_lists_are_refused(write, schedule, words):
    with pytest.raises(ProblemError, match=words):
        read(write(GOOD + f'schedule = {{ name = "piecewise", {schedule} }}\n'))
