"""Balls against exact rational numbers."""

from fractions import Fraction


def _fraction(value):
    significand, exponent = map(int, value.mid().man_exp())
    return significand * Fraction(2) ** exponent


def middle(ball):
    """The midpoint, exactly."""
    return _fraction(ball.value)


def radius(ball):
    """The radius, exactly."""
    return _fraction(ball.value.rad())


def holds(ball, truth):
    """Whether a rational number lies within the ball."""
    return abs(middle(ball) - truth) <= radius(ball)
