from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smol.policy.leak import LeakWatch, slope_bytes_per_second

MIB = 1 << 20


def verdict(size_mib: Callable[[float], float], seconds: int = 600) -> str | None:
    watch = LeakWatch(0.0)
    found = None
    for second in range(0, seconds, 5):
        if watch.add(float(second), int(size_mib(second) * MIB)):
            found = found or watch.verdict()
    return found


def test_steady_growth_is_a_leak_and_its_rate_is_told() -> None:
    reason = verdict(lambda t: 50 + t / 5)
    assert reason is not None
    assert "12.00 MiB a minute" in reason


def test_growth_under_noise_is_a_leak() -> None:
    noise = random.Random(7)
    assert verdict(lambda t: 50 + t / 5 + noise.uniform(-5, 5))


SHAPES: dict[str, Callable[[float], float]] = {
    "flat": lambda t: 50,
    "noise": lambda t: 50 + 20 * math.sin(t * t),
    "saw-tooth": lambda t: 50 + (t % 50),
    "one step": lambda t: 50 + (100 if t > 200 else 0),
    "one spike": lambda t: 50 + (500 if 200 < t < 215 else 0),
    "a cache that fills": lambda t: 50 + 100 * (1 - math.exp(-max(0, t - 60) / 30)),
    "growth too slow to matter": lambda t: 50 + t / 200,
    "growth only while warming up": lambda t: 50 + min(t, 60),
    "shrinking": lambda t: 300 - t / 5,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_does_not_grow_without_bound_is_no_leak(shape: str) -> None:
    assert verdict(SHAPES[shape]) is None


def test_there_is_no_verdict_before_the_samples_span_two_minutes() -> None:
    assert verdict(lambda t: 50 + 5 * t, seconds=175) is None
    assert verdict(lambda t: 50 + 5 * t, seconds=200) is not None


@given(
    slope=st.integers(-1000, 1000),
    start=st.integers(0, 10**9),
    wild=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 10**12)), max_size=5),
)
def test_the_slope_of_a_line_is_found_although_a_fifth_of_it_is_wild(
    slope: int, start: int, wild: list[tuple[int, int]]
) -> None:
    samples = [(float(i), start + slope * i) for i in range(24)]
    for index, size in wild:
        samples[index] = (float(index), size)
    assert slope_bytes_per_second(samples)[0] == slope


def test_one_sample_has_no_slope() -> None:
    assert slope_bytes_per_second([(1.0, 5)]) == (0.0, 0.0)
    assert slope_bytes_per_second([(1.0, 5), (1.0, 9)]) == (0.0, 0.0)
