"""Number theory on integers small enough to answer at once.

Primality is Miller-Rabin with the first 13 primes as bases, which is a proof below 3.3·10^24 (Sorenson and
Webster, 2015). Factors are found by trial division and Pollard's rho (Brent's cycle finding).
"""

from __future__ import annotations

from math import gcd

from smol.errors import InvalidArgument, ResourceExhausted
from smol.units.math.limits import Meter

__all__ = ["divisors", "factors", "is_prime", "next_prime", "totient"]

_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
_PROVEN = 3_317_044_064_679_887_385_961_981


def is_prime(n: int, meter: Meter) -> bool:
    """Raises ResourceExhausted beyond what Miller-Rabin proves."""
    if n >= _PROVEN:
        raise ResourceExhausted(f"primes are known here below {_PROVEN} (about 3.3e24), the limit")
    if n < 2:
        return False
    meter.charge(30)
    for prime in _BASES:
        if n % prime == 0:
            return n == prime
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> twos
    return not any(_is_witness(base, odd, twos, n) for base in _BASES)


def _is_witness(base: int, odd: int, twos: int, n: int) -> bool:
    x = pow(base, odd, n)
    if x in (1, n - 1):
        return False
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return False
    return True


def next_prime(n: int, meter: Meter) -> int:
    """The smallest prime above n."""
    candidate = max(n + 1, 2)
    if candidate > 2:
        candidate |= 1
    while not is_prime(candidate, meter):
        candidate += 2
    return candidate


def factors(n: int, meter: Meter) -> list[int]:
    """Prime factors of n >= 1 in ascending order, repeated. 1 has none."""
    if n < 1:
        raise InvalidArgument(f"only integers from 1 have prime factors, not {n}")
    found: list[int] = []
    for prime in _BASES:
        while n % prime == 0:
            found.append(prime)
            n //= prime
            meter.charge(1)
    pending = [n] if n > 1 else []
    while pending:
        part = pending.pop()
        if is_prime(part, meter):
            found.append(part)
        else:
            divisor = _divide(part, meter)
            pending += [divisor, part // divisor]
    return sorted(found)


def _divide(n: int, meter: Meter) -> int:
    """A proper divisor of a composite n without small factors."""
    for offset in range(1, 100):
        y, x, product, length, divisor = 2, 2, 1, 1, 1
        saved = y
        while divisor == 1:
            x = y
            for _ in range(length):
                y = (y * y + offset) % n
            meter.charge(1 + length // 8)
            done = 0
            while done < length and divisor == 1:
                saved = y
                for _ in range(min(64, length - done)):
                    y = (y * y + offset) % n
                    product = product * abs(x - y) % n
                meter.charge(20)
                divisor = gcd(product, n)
                done += 64
            length *= 2
        if divisor == n:
            divisor = 1
            while divisor == 1:
                saved = (saved * saved + offset) % n
                divisor = gcd(abs(x - saved), n)
                meter.charge(1)
        if divisor != n:
            return divisor
    raise ResourceExhausted(f"no factor of {n} was found within the limit of 99 attempts")


def divisors(n: int, meter: Meter) -> list[int]:
    """All positive divisors in ascending order."""
    found = [1]
    last, powers = 0, [1]
    for prime in factors(n, meter):
        if prime != last:
            last, powers = prime, list(found)
        powers = [value * prime for value in powers]
        found += powers
        meter.charge(len(found))
        if len(found) > 10_000:
            raise ResourceExhausted(f"{n} has more than 10000 divisors, the limit")
    return sorted(found)


def totient(n: int, meter: Meter) -> int:
    """How many of 1..n are coprime to n."""
    result = n
    for prime in set(factors(n, meter)):
        result -= result // prime
    return result
