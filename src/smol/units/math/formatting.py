"""Values to text: the exact form, a decimal of the chosen precision, LaTeX, and the name of the type."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from smol.units.math.arithmetic import Arithmetic, Gaussian
from smol.units.math.matrices import is_matrix
from smol.units.math.quantities import Quantity, shown

__all__ = ["decimal_text", "exact_text", "latex_text", "type_name"]


def type_name(value: Any) -> str:
    """integer, rational, real, complex, boolean, quantity, vector or matrix."""
    kind = type(value)
    if kind is int:
        return "integer"
    if kind is Fraction:
        return "rational"
    if kind is bool:
        return "boolean"
    if kind is Quantity:
        return "quantity"
    if kind is list:
        return "matrix" if is_matrix(value) else "vector"
    return "complex" if kind is Gaussian or hasattr(value, "_mpc_") else "real"


def exact_text(a: Arithmetic, value: Any) -> str | None:
    """The value without rounding, or None when it is known only approximately."""
    kind = type(value)
    if kind is int:
        return _digits(value)
    if kind is Fraction:
        return f"{_digits(value.numerator)}/{_digits(value.denominator)}"
    if kind is bool:
        return "true" if value else "false"
    if kind is Gaussian:
        return _complex(exact_text(a, value.re) or "", _wrapped(exact_text(a, value.im) or ""))
    if kind is Quantity:
        number = exact_text(a, shown(a, value))
        return None if number is None else f"{number} {value.label}"
    if kind is list:
        items = [exact_text(a, item) for item in value]
        return None if None in items else f"[{', '.join(item for item in items if item is not None)}]"
    return None


def decimal_text(a: Arithmetic, value: Any) -> str:
    """Rounded half-even to the precision asked for; without trailing zeros."""
    kind = type(value)
    a.meter.charge(2)
    if kind is int or kind is Fraction:
        return _rounded(a, value)
    if kind is bool:
        return "true" if value else "false"
    if kind is Gaussian:
        return _complex(_rounded(a, value.re), _rounded(a, value.im))
    if kind is Quantity:
        return f"{decimal_text(a, shown(a, value))} {value.label}"
    if kind is list:
        return f"[{', '.join(decimal_text(a, item) for item in value)}]"
    if hasattr(value, "_mpc_"):
        return _complex(decimal_text(a, value.real), decimal_text(a, value.imag))
    a.meter.charge(20 + a.digits // 4)
    return _plain(Decimal(a.mp.nstr(value, a.digits)), a.digits)


def latex_text(a: Arithmetic, value: Any) -> str | None:
    """LaTeX of the exact form, or None when there is none."""
    kind = type(value)
    if kind is Fraction:
        sign = "-" if value < 0 else ""
        return rf"{sign}\frac{{{_digits(abs(value.numerator))}}}{{{_digits(value.denominator)}}}"
    if kind is bool:
        return rf"\mathrm{{{exact_text(a, value)}}}"
    if kind is Quantity:
        number = latex_text(a, shown(a, value))
        return None if number is None else rf"{number}\,\mathrm{{{value.label}}}"
    if kind is Gaussian:
        return _complex(latex_text(a, value.re) or "", latex_text(a, value.im) or "")
    if kind is list:
        rows = value if is_matrix(value) else [value]
        cells = [[latex_text(a, item) for item in row] for row in rows]
        if any(cell is None for row in cells for cell in row):
            return None
        body = r" \\ ".join(" & ".join(cell or "" for cell in row) for row in cells)
        return rf"\begin{{bmatrix}} {body} \end{{bmatrix}}"
    return exact_text(a, value)


def _digits(value: int) -> str:
    # str() of an int is limited to 4300 digits for the whole process; a Decimal's is not.
    return str(value) if value.bit_length() < 14_000 else format(Decimal(value), "f")


def _rounded(a: Arithmetic, value: int | Fraction) -> str:
    if type(value) is int and value.bit_length() < 3 * a.digits:
        return str(value)
    context = Context(prec=a.digits, Emax=999_999, Emin=-999_999)
    return _plain(context.divide(Decimal(value.numerator), Decimal(value.denominator)), a.digits)


def _plain(value: Decimal, digits: int) -> str:
    """Positional where that is short, else scientific: 0.0001, 1e-30, 9.33e+157."""
    if not value:
        return "0"
    if -8 < value.adjusted() < max(digits, 21):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = format(value, "e").partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{exponent}"


def _wrapped(text: str) -> str:
    return f"({text})" if "/" in text and not text.startswith("-") else text


def _complex(real: str, imaginary: str) -> str:
    imaginary = {"1": "i", "-1": "-i"}.get(imaginary, f"{imaginary}i")
    if real == "0":
        return imaginary
    return f"{real} - {imaginary[1:]}" if imaginary.startswith("-") else f"{real} + {imaginary}"
