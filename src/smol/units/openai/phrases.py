"""The phrases that `understand` knows: patterns of English, words for operators and units, names of things."""

from __future__ import annotations

import re

__all__ = [
    "CALL",
    "CHECK",
    "COUNT",
    "DESCRIBE",
    "FACT",
    "FENCE",
    "FORGET",
    "FORMULA",
    "HELP",
    "HOW_MANY_OF",
    "LOCATE",
    "MEMORIES",
    "RECALL",
    "REMEMBER",
    "REQUEST",
    "SINGULARS",
    "SPOKEN",
    "UNITS",
]

_THING = r"(?P<what>[\w][\w' -]*?)"
_SEEN = (
    r"(?:\s+(?:are|is))?(?:\s+(?:there|visible|shown|present|here))?"
    r"(?:\s+(?:do|can|did)\s+you\s+(?:see|find|count))?"
)
_PICTURE = (
    r"(?:\s*,?\s*(?:in|on|from|within)\s+(?:the|this|that|my|it)?\s*"
    r"(?:picture|image|photo|photograph|scene|it|here)?)?"
)
_END = r"\s*[?.!]*$"
_PLEASE = r"^(?:please\s+)?"

FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)```", re.DOTALL)
CALL = re.compile(
    r"^\s*(?:please\s+)?(?:call|run)?\s*([a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)\s*(?:with)?\s*(\{.*\})?\s*$", re.DOTALL
)
COUNT = re.compile(rf"\b(?:how many|number of|count(?: all)?(?: the)?)\s+{_THING}{_SEEN}{_PICTURE}{_END}")
LOCATE = re.compile(
    r"\b(?:where(?:'s| is| are)|locate|find|point to)\s+(?:(?:the|an?|my|all(?: the)?|every)\s+)?"
    rf"{_THING}{_PICTURE}{_END}"
)
CHECK = re.compile(
    rf"\b(?:is|are) there\s+(?:(?:an?|any|some)\s+)?{_THING}{_PICTURE}{_END}"
    rf"|\b(?:do|can) you see\s+(?:(?:an?|any|the|some)\s+)?(?P<seen>[\w][\w' -]*?){_PICTURE}{_END}"
)
DESCRIBE = re.compile(
    r"\b(?:picture|image|photo|photograph|see|shown?|describe|recogni[sz]e|identify|detect"
    r"|what(?:'s| is) (?:this|that|it|here))\b"
)
REMEMBER = re.compile(
    _PLEASE + r"(?:remember|note|memori[sz]e|keep in mind|save)\s+(?:that\s+|this\s*:\s*)?(?P<fact>.+)$",
    re.IGNORECASE | re.DOTALL,
)
FACT = re.compile(r"^(?P<what>.{1,80}?)\s+(?:is|are|=|was)\s+(?P<value>.+)$", re.IGNORECASE | re.DOTALL)
RECALL = re.compile(
    _PLEASE + r"(?:recall|what did i (?:say|tell you) about|do you remember|tell me(?: about)?|who is|when is"
    r"|where is|what(?:'s| is| was| are))\s+(?P<what>.+?)" + _END
)
FORGET = re.compile(_PLEASE + r"forget\s+(?:about\s+|that\s+)?(?P<what>.+?)" + _END)
MEMORIES = re.compile(
    r"\bwhat (?:do|did|can) you (?:remember|recall|know about me)\b"
    r"|^(?:list|show)(?: me)?(?: all)? (?:your |my |the )?memor(?:y|ies)"
)
HELP = re.compile(
    r"^(?:hi|hello|hey|help|good (?:morning|evening|day)|thanks|thank you|what can you do|(?:who|what) are you)\b"
)
REQUEST = re.compile(
    _PLEASE + r"(?:what(?:'s| is| are)|how much (?:is|are)|compute|calculate|evaluate|solve|work out|simplify"
    r"|convert|tell me)\s+",
    re.IGNORECASE,
)
HOW_MANY_OF = re.compile(
    r"^how many\s+(?P<to>[a-z°/^0-9]+)\s+(?:are |is )?(?:there )?in\s+(?P<what>[-\d.].*?|an?\s+.+?)" + _END
)
FORMULA = re.compile(
    r"[\d)\]]\s*[-+*/^%!]|[-+*/^]\s*[\d(]|\b[a-z]\w*\s*\(|\d\s*(?:to|in|->)\s*[a-z]"
    r"|\d\s*[a-zµ°Ω]+\s+(?:to|in)\s|^\s*-?[\d.]+\s*$",
    re.IGNORECASE,
)
SPOKEN = tuple(
    (re.compile(pattern), sign)
    for pattern, sign in (
        (r"\bplus\b", "+"),
        (r"\bminus\b|−", "-"),
        (r"\b(?:times|multiplied by)\b|×|·", "*"),
        (r"\bdivided by\b|\bover\b|÷", "/"),
        (r"\bto the power(?: of)?\b", "^"),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"\b(?:the )?square root of\s+([\d.]+)", r"sqrt(\1)"),
        (r"([\d.]+)\s*(?:percent|%)\s+of\s+", r"\1/100*"),
    )
)

_UNIT_NAMES = {
    "mi": "mile miles",
    "km": "kilometer kilometers kilometre kilometres",
    "m": "meter meters metre metres",
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "ft": "foot feet",
    "inch": "inch inches",
    "yd": "yard yards",
    "lb": "pound pounds",
    "kg": "kilogram kilograms",
    "g": "gram grams",
    "oz": "ounce ounces",
    "h": "hour hours",
    "min": "minute minutes",
    "s": "second seconds",
    "d": "day days",
    "L": "liter liters litre litres",
    "degC": "celsius",
    "degF": "fahrenheit",
    "K": "kelvin",
}
UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
"""Units of measure as `math` writes them, by the words for them."""

_THING_NAMES = {
    "person": "people persons men women children kids man woman child kid",
    "mouse": "mice",
    "knife": "knives",
    "bicycle": "bike bikes",
    "motorcycle": "motorbike motorbikes",
    "tv": "tvs television televisions",
    "bus": "buses",
    "airplane": "plane planes aeroplane aeroplanes",
    "cell phone": "phone phones",
    "couch": "sofa sofas",
    "potted plant": "plant plants",
    "dog": "puppy puppies",
    "cat": "kitten kittens",
}
SINGULARS = {name: thing for thing, names in _THING_NAMES.items() for name in names.split()}
"""Things as networks name them, by other words for them."""
