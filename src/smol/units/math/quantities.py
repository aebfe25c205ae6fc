"""Units of measure: an exact table of our own (a full units library costs more than the rest of the unit).

Factors are the definitions of the SI Brochure (9th edition), the international yard and pound (1959) and,
for US units, NIST Handbook 44; each is exact, so 1 ft is 381/1250 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from smol.errors import InvalidArgument
from smol.units.math.arithmetic import Arithmetic, Scalar

__all__ = ["Quantity", "base_label", "combined", "converted", "find_unit", "names", "shown"]

_BASES = ("m", "kg", "s", "A", "K", "mol", "cd", "bit")
Dimensions = tuple[int, ...]

_PREFIXES = {
    "Q": 30, "R": 27, "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1,
    "d": -1, "c": -2, "m": -3, "u": -6, "µ": -6, "μ": -6, "n": -9, "p": -12, "f": -15, "a": -18, "z": -21,
    "y": -24, "r": -27, "q": -30,
}  # fmt: skip
_LONG_PREFIXES = {
    "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deca": 1, "deci": -1, "centi": -2, "milli": -3, "micro": -6,
    "nano": -9, "pico": -12, "tera": 12,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

# Symbols that take prefixes: factor to the bases, and exponents of the bases.
_METRIC = {
    "m": "1 m", "g": "1/1000 kg", "s": "1 s", "A": "1 A", "K": "1 K", "mol": "1 mol", "cd": "1 cd",
    "N": "1 m kg s-2", "J": "1 m2 kg s-2", "W": "1 m2 kg s-3", "Pa": "1 m-1 kg s-2", "Hz": "1 s-1",
    "V": "1 m2 kg s-3 A-1", "C": "1 A s", "ohm": "1 m2 kg s-3 A-2", "Ω": "1 m2 kg s-3 A-2",
    "F": "1 m-2 kg-1 s4 A2", "H": "1 m2 kg s-2 A-2", "S": "1 m-2 kg-1 s3 A2", "Wb": "1 m2 kg s-2 A-1",
    "T": "1 kg s-2 A-1", "lm": "1 cd", "lx": "1 cd m-2", "Bq": "1 s-1", "Gy": "1 m2 s-2", "Sv": "1 m2 s-2",
    "L": "1/1000 m3", "l": "1/1000 m3", "bar": "100000 m-1 kg s-2", "eV": "801088317/5e27 m2 kg s-2",
    "cal": "523/125 m2 kg s-2", "Wh": "3600 m2 kg s-2", "bit": "1 bit", "B": "8 bit", "b": "1 bit", "t": "1000 kg",
}  # fmt: skip
_WORDS = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "ampere": "A", "kelvin": "K", "newton": "N",
    "joule": "J", "watt": "W", "pascal": "Pa", "hertz": "Hz", "volt": "V", "liter": "L", "litre": "L",
    "byte": "B", "coulomb": "C", "calorie": "cal", "mole": "mol", "farad": "F", "tonne": "t",
}  # fmt: skip
_PLAIN = {
    "inch": "127/5000 m", "in": "127/5000 m", "ft": "381/1250 m", "foot": "381/1250 m", "feet": "381/1250 m",
    "yd": "1143/1250 m", "yard": "1143/1250 m", "mi": "201168/125 m", "mile": "201168/125 m",
    "nmi": "1852 m", "mil": "127/5000000 m", "angstrom": "1/1e10 m", "au": "149597870700 m",
    "ly": "9460730472580800 m",
    "lb": "45359237/1e8 kg", "lbs": "45359237/1e8 kg", "pound": "45359237/1e8 kg", "oz": "45359237/16e8 kg",
    "ounce": "45359237/16e8 kg", "stone": "635029318/1e8 kg", "ton": "90718474/1e5 kg", "grain": "6479891/1e11 kg",
    "carat": "1/5000 kg",
    "min": "60 s", "minute": "60 s", "h": "3600 s", "hr": "3600 s", "hour": "3600 s", "d": "86400 s",
    "day": "86400 s", "week": "604800 s", "fortnight": "1209600 s", "year": "31557600 s", "month": "2629800 s",
    "ha": "10000 m2", "hectare": "10000 m2", "acre": "316160658/78125 m2",
    "gal": "473176473/125e9 m3", "gallon": "473176473/125e9 m3", "qt": "473176473/5e11 m3",
    "quart": "473176473/5e11 m3", "pt": "473176473/1e12 m3", "pint": "473176473/1e12 m3",
    "cup": "473176473/2e12 m3", "floz": "473176473/16e12 m3", "tbsp": "473176473/32e12 m3",
    "tsp": "473176473/96e12 m3",
    "mph": "1397/3125 m s-1", "kph": "5/18 m s-1", "knot": "463/900 m s-1", "kn": "463/900 m s-1",
    "atm": "101325 m-1 kg s-2", "mmHg": "133322387415/1e9 m-1 kg s-2", "torr": "20265/152 m-1 kg s-2",
    "psi": "8896443230521/129032e4 m-1 kg s-2", "lbf": "8896443230521/2e12 m kg s-2",
    "hp": "37284993579113511/5e13 m2 kg s-3", "BTU": "52752792631/5e7 m2 kg s-2", "erg": "1/1e7 m2 kg s-2",
    "dyn": "1/1e5 m kg s-2",
}  # fmt: skip
_ABSOLUTE = {
    "degC": (Fraction(1), Fraction(27315, 100)), "celsius": (Fraction(1), Fraction(27315, 100)),
    "degF": (Fraction(5, 9), Fraction(45967, 180)), "fahrenheit": (Fraction(5, 9), Fraction(45967, 180)),
}  # fmt: skip
_NO_PLURAL = {"s", "in", "ft", "feet", "lbs", "mph", "kph", "psi"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in base units with its dimensions, and the unit it is shown in.

    offset: of an absolute temperature scale, 0 for others.
    """

    value: Scalar
    dimensions: Dimensions
    label: str
    factor: Scalar
    offset: Fraction = Fraction(0)


@cache
def find_unit(name: str) -> Quantity | None:
    """One of the unit called `name`, with an SI or binary prefix and a plural s if it has them."""
    if name in _ABSOLUTE:
        factor, offset = _ABSOLUTE[name]
        return Quantity(factor + offset, _read("1 K")[1], name, factor, offset)
    found = _look_up(name)
    if found is None and name.endswith("s") and len(name) > 3 and name[:-1] not in _NO_PLURAL:
        singular = name[:-1]
        if singular in _PLAIN or any(singular.endswith(word) for word in _WORDS):
            found = _look_up(singular)
        if found is None and name.endswith("es"):
            found = _look_up(name[:-2]) if name[:-2] in _PLAIN else None
    return None if found is None else Quantity(found[0], found[1], name, found[0])


def names() -> list[str]:
    """Every unit without its prefixed forms, for hints and the reference page."""
    return [*_METRIC, *_WORDS, *_PLAIN, *_ABSOLUTE]


def converted(value: Quantity, unit: Quantity) -> Quantity:
    """`value` shown in `unit`. Raises InvalidArgument when they measure different things."""
    if value.dimensions != unit.dimensions:
        raise InvalidArgument(
            f"{value.label} ({_spelled(value.dimensions)}) can't be converted to "
            f"{unit.label} ({_spelled(unit.dimensions)}): they measure different things"
        )
    return Quantity(value.value, value.dimensions, unit.label, unit.factor, unit.offset)


def combined(a: Arithmetic, value: Scalar, dimensions: Dimensions, label: str, factor: Scalar) -> Scalar:
    """A quantity, or a plain number if all dimensions cancelled."""
    return Quantity(value, dimensions, label, factor) if any(dimensions) else value


def shown(a: Arithmetic, value: Quantity) -> Scalar:
    """The number that stands before the unit's label."""
    return a.divide(a.add(value.value, -value.offset), value.factor)


def _look_up(name: str) -> tuple[Fraction, Dimensions] | None:
    definition = _PLAIN.get(name) or _METRIC.get(name) or _METRIC.get(_WORDS.get(name, ""))
    if definition is not None:
        return _read(definition)
    for prefixes, units in ((_LONG_PREFIXES, _WORDS), (_PREFIXES, _METRIC)):
        for prefix, power in prefixes.items():
            rest = name[len(prefix) :]
            if name.startswith(prefix) and rest in units:
                factor, dimensions = _read(_METRIC[_WORDS.get(rest, rest)])
                return factor * Fraction(10) ** power, dimensions
    for prefix, power in _BINARY.items():
        if name.startswith(prefix) and name[2:] in ("B", "bit", "b"):
            factor, dimensions = _read(_METRIC[name[2:]])
            return factor * 2**power, dimensions
    return None


def _read(definition: str) -> tuple[Fraction, Dimensions]:
    number, *bases = definition.split()
    over, _, under = number.partition("/")
    exponents = [0] * len(_BASES)
    for base in bases:
        symbol = base.rstrip("-0123456789")
        exponents[_BASES.index(symbol)] = int(base[len(symbol) :] or 1)
    return Fraction(over) / Fraction(under or 1), tuple(exponents)


def _spelled(dimensions: Dimensions) -> str:
    parts = [f"{base}^{power}" if power != 1 else base
             for base, power in zip(_BASES, dimensions, strict=True) if power]  # fmt: skip
    return " ".join(parts)


def base_label(dimensions: Dimensions) -> str:
    """The label of a quantity in base units, for example `m s^-1`."""
    return _spelled(dimensions)
