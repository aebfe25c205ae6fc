"""Text to nodes: a Pratt parser of our own. It knows no names, so any name parses; nothing is evaluated.

Grammar and precedence: docs/reference/math.md. Bounded by MAX_LENGTH and MAX_DEPTH before any work.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from smol.errors import InvalidArgument
from smol.units.math.limits import MAX_DEPTH, MAX_DIGITS, MAX_EXPONENT, MAX_LENGTH
from smol.units.math.syntax import (
    Assign,
    Binary,
    Call,
    Define,
    Expression,
    Index,
    List,
    Name,
    Number,
    Postfix,
    Prefix,
    Statement,
)

__all__ = ["parse", "parse_equation", "parse_expression"]

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*|√)"
    r"|(?P<operator>\*\*|->|→|[<>=!]=|[-+*/^%!()\[\],;:=<>×÷·−≤≥≠°²³]|\r?\n)"
    r"|(?P<end>\Z))"
)
_SPELLINGS = {
    "**": "^", "->": "to", "→": "to", "×": "*", "·": "*", "÷": "/", "−": "-", "≤": "<=", "≥": ">=", "≠": "!=",
    "\n": ";", "\r\n": ";",
}  # fmt: skip
_WORDS = frozenset({"to", "in", "of", "mod", "and", "or", "not", "xor"})
_POWERS = {
    "to": 10, "or": 20, "xor": 22, "and": 30, "==": 40, "!=": 40, "<": 40, "<=": 40, ">": 40, ">=": 40,
    "+": 50, "-": 50, "*": 60, "/": 60, "%": 60, "mod": 60, "of": 60, "^": 80,
}  # fmt: skip
_IMPLIED, _SIGN, _NOT, _POSTFIX = 65, 70, 35, 90
_OPERANDS = frozenset({"number", "name", "(", "[", "-"})

Token = tuple[str, str, int]
"""Kind (`number`, `name`, `end`, or the operator itself), text, position."""


def parse(text: str) -> list[Statement]:
    """Statements separated by `;` or line ends. Raises InvalidArgument saying where and what."""
    return _Parser(text).statements()


def parse_expression(text: str) -> Expression:
    """One expression, without statements. Raises InvalidArgument."""
    parser = _Parser(text)
    node = parser.expression(0)
    parser.expect("end")
    return node


def parse_equation(text: str) -> Expression:
    """An expression, or two with `=` between them, which is the same as `==`. Raises InvalidArgument."""
    parser = _Parser(text)
    node = parser.expression(0)
    if parser.take("="):
        node = Binary("==", node, parser.expression(0))
    parser.expect("end")
    return node


def _tokens(text: str) -> list[Token]:
    if len(text) > MAX_LENGTH:
        raise InvalidArgument(f"the expression has {len(text)} characters; the limit is {MAX_LENGTH}")
    tokens: list[Token] = []
    position = 0
    match = _TOKEN.match
    while True:
        found = match(text, position)
        if found is None:
            at = position + len(text[position:]) - len(text[position:].lstrip(" \t"))
            raise InvalidArgument(f"unexpected {text[at]!r} at position {at + 1}")
        kind = found.lastgroup or ""
        piece = found[kind]
        start, position = found.start(kind), found.end()
        if kind == "operator" or (kind == "name" and piece in _WORDS):
            kind = _SPELLINGS.get(piece, piece)
        tokens.append((kind, piece, start))
        if kind == "end":
            return tokens


def _number(text: str) -> int | Fraction:
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if len(text) < 300 and text.isdigit():
        return int(text)
    if len(text) > MAX_DIGITS:
        raise InvalidArgument(f"a number of {len(text)} digits; the limit is {MAX_DIGITS}")
    mantissa, _, exponent = text.replace("E", "e").partition("e")
    if exponent and (len(exponent) > 9 or abs(int(exponent)) > MAX_EXPONENT):
        raise InvalidArgument(f"the exponent of {text[:40]} is beyond the limit of {MAX_EXPONENT}")
    whole, _, decimals = mantissa.partition(".")
    digits = whole + decimals
    scale = int(exponent or 0) - len(decimals)
    # Decimal reads more digits than int() is allowed to.
    integer = int(digits) if len(digits) < 300 else int(Decimal(digits))
    if scale >= 0:
        return int(integer * 10**scale)
    value = Fraction(integer, 10**-scale)
    return value.numerator if value.denominator == 1 else value


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        while True:
            while self._tokens[self._at][0] == ";":
                self._at += 1
            if self._tokens[self._at][0] == "end":
                break
            found.append(self._statement())
            if self._tokens[self._at][0] != ";":
                self.expect("end")
        if not found:
            raise InvalidArgument("the expression is empty; write one such as 2/3 + 1e-30")
        return found

    def expect(self, kind: str) -> None:
        """Take a token of `kind`; the end is not taken."""
        token = self._tokens[self._at]
        if token[0] != kind:
            wanted = "" if kind == "end" else f"; expected {kind!r}"
            raise InvalidArgument(f"{_told(token)}{wanted}")
        if kind != "end":
            self._at += 1

    def take(self, kind: str) -> bool:
        """Take a token of `kind` if it is the next one."""
        found = self._tokens[self._at][0] == kind
        self._at += found
        return found

    def expression(self, power: int) -> Expression:
        """What binds tighter than `power`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidArgument(f"the expression is nested deeper than the limit of {MAX_DEPTH}")
        node = self._operand()
        tokens = self._tokens
        while True:
            kind, _, _ = tokens[self._at]
            if kind == "in":
                kind = "to" if self._converts() else "name"
            if kind == "%" and tokens[self._at + 1][0] not in _OPERANDS - {"-"}:
                kind = "percent"
            binding = _POWERS.get(kind)
            if binding is not None:
                if binding <= power:
                    break
                self._at += 1
                node = Binary(kind, node, self._right(kind, binding, node))
            elif kind == "name" or (kind == "(" and type(node) is not Name):
                if power >= _IMPLIED:
                    break
                node = Binary("*", node, self.expression(_IMPLIED))
            else:
                break
        self._depth -= 1
        return node

    def _right(self, operator: str, binding: int, left: Expression) -> Expression:
        if operator == "^":
            return self.expression(binding - 1)
        if operator == "/" and type(left) is Number and self._tokens[self._at][0] == "number":
            return self.expression(_IMPLIED)  # 1/2 m is half a metre; 10 m / 2 s is 5 m/s.
        return self.expression(binding)

    def _statement(self) -> Statement:
        start = self._at
        node = self.expression(0)
        if self._tokens[self._at][0] != "=":
            return node
        self._at += 1
        if type(node) is Name:
            return Assign(node.text, self.expression(0))
        if type(node) is Call and all(type(argument) is Name for argument in node.arguments):
            names = [argument.text for argument in node.arguments if type(argument) is Name]
            if len(set(names)) == len(names) and names:
                return Define(node.function, names, self.expression(0))
        raise InvalidArgument(
            f"what stands left of '=' at position {self._tokens[start][2] + 1} is neither a name nor "
            "a function such as f(x); use == to compare"
        )

    def _operand(self) -> Expression:
        kind, text, _ = token = self._tokens[self._at]
        self._at += 1
        node: Expression
        if kind == "number":
            node = Number(_number(text))
        elif kind in ("name", "in") or (kind == "mod" and self._tokens[self._at][0] == "("):
            node = self._name(text)
        elif kind == "(":
            node = self.expression(0)
            self.expect(")")
        elif kind == "[":
            node = self._list()
        elif kind in ("-", "+"):
            return Prefix(kind, self.expression(_SIGN))
        elif kind == "not":
            return Prefix(kind, self.expression(_NOT))
        else:
            raise InvalidArgument(_told(token))
        return self._postfix(node)

    def _postfix(self, node: Expression) -> Expression:
        for _ in range(MAX_DEPTH):
            kind = self._tokens[self._at][0]
            if kind == "!":
                node = Postfix("!", node)
            elif kind == "%" and self._tokens[self._at + 1][0] not in _OPERANDS - {"-"}:
                node = Postfix("%", node)
            elif kind == "²" or kind == "³":
                node = Binary("^", node, Number(2 if kind == "²" else 3))
            elif kind == "°":
                node = Binary("*", node, Name("deg"))
            elif kind == "[" and type(node) is not Number:
                self._at += 1
                node = Index(node, self._items("]"))
                continue
            else:
                return node
            self._at += 1
        raise InvalidArgument(f"more than {MAX_DEPTH} postfix operators in a row, the limit")

    def _name(self, text: str) -> Expression:
        if self._tokens[self._at][0] == "(":
            self._at += 1
            return Call(text, self._items(")"))
        if text == "√":
            return Call("sqrt", [self.expression(_SIGN)])
        return Name(text)

    def _list(self) -> Expression:
        rows: list[Expression] = []
        start = self._at
        items: list[Expression] = []
        while self._tokens[self._at][0] != "]" or self._at == start:
            if self._tokens[self._at][0] == "]":
                self._at += 1
                return List([])
            items.append(self.expression(0))
            kind = self._tokens[self._at][0]
            if kind == ";":
                rows.append(List(items))
                items = []
            elif kind != ",":
                break
            self._at += 1
        self.expect("]")
        if not rows:
            return List(items)
        return List([*rows, List(items)] if items else rows)

    def _items(self, closing: str) -> list[Expression]:
        items: list[Expression] = []
        if self._tokens[self._at][0] != closing:
            items.append(self.expression(0))
            while self._tokens[self._at][0] == ",":
                self._at += 1
                items.append(self.expression(0))
        self.expect(closing)
        return items

    def _converts(self) -> bool:
        """Whether `in` here asks for a conversion, rather than being the inch."""
        return self._tokens[self._at + 1][0] == "name"


def _told(token: Token) -> str:
    kind, text, position = token
    if kind == "end":
        return "the expression ends too early"
    return f"unexpected {text!r} at position {position + 1}"
