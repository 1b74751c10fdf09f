"""Repetitions in turn, by a clock that is turned by hand."""

from lockstep.harness.benchmark.sample import Failure
from lockstep.harness.benchmark.schedule import repeat
from tests.harness.benchmark.made import sample


class Lab:
    """Every repetition takes so many seconds of a made clock."""

    def __init__(self, **seconds):
        self.seconds, self.now, self.order = seconds, 0.0, []

    def clock(self):
        return self.now

    def measure(self, name, left):
        self.order.append(name)
        found = self.seconds[name]
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, Failure):
            return found
        if left is not None and found > left:
            self.now += left
            return Failure("it was ended")
        self.now += found
        return sample(found)

    def run(self, enough, limit, **options):
        return repeat(list(self.seconds), self.measure, enough, limit, clock=self.clock, **options)


def counts(content):
    return {name: len(samples) for name, samples in content.samples.items()}


def test_each_round_has_all_in_an_order_of_its_own():
    lab = Lab(a=1, b=1, c=1, d=1)
    content = lab.run(lambda samples: len(samples) >= 6, 1e9)
    rounds = [lab.order[start : start + 4] for start in range(0, 24, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert content.rounds == 6


def test_who_has_enough_is_left_alone():
    lab = Lab(a=1, b=2)
    content = lab.run(lambda samples: len(samples) >= (3 if samples[0].runs[0] == 1 else 5), 1e9)
    assert counts(content) == {"a": 3, "b": 5}


def test_everybody_gets_one_and_nobody_begins_what_would_not_end_in_time():
    lab = Lab(fast=1, slow=50)
    content = lab.run(lambda samples: False, 60)
    assert counts(content) == {"fast": 10, "slow": 1}
    assert lab.now <= 60
    assert counts(Lab(slow=50).run(lambda samples: False, 1)) == {"slow": 1}


def test_what_fails_is_given_up_and_the_others_go_on():
    lab = Lab(good=1, bad=Failure("it crashed"))
    content = lab.run(lambda samples: len(samples) >= 3, 1e9)
    assert (counts(content), content.failures) == ({"good": 3, "bad": 0}, {"bad": "it crashed"})
    assert lab.order.count("bad") == 1


def test_an_end_by_the_clock_takes_nothing_away():
    lab = Lab(a=4)

    def slower(name, left):
        found = Lab.measure(lab, name, left)
        lab.seconds["a"] = 9  # the next takes longer than the last, and is cut off
        return found

    content = repeat(["a"], slower, lambda samples: False, 10, clock=lab.clock)
    assert (counts(content), content.failures) == ({"a": 1}, {})


def test_an_interrupt_leaves_the_finished_repetitions():
    lab = Lab(a=1, b=KeyboardInterrupt())
    content = lab.run(lambda samples: False, 1e9)
    assert content.interrupted
    assert counts(content)["a"] == lab.order.count("a")


def test_the_machine_is_measured_once_a_round():
    rounds = []
    content = Lab(a=1, b=1).run(lambda samples: len(samples) >= 4, 1e9, each_round=lambda: rounds.append(1))
    assert len(rounds) == content.rounds == 4
