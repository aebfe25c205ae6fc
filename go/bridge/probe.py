"""Says as JSON what this Python is, and which of the requirements in its arguments it does not meet."""

import importlib.metadata
import json
import re
import sys

try:
    from packaging.requirements import Requirement
except ImportError:
    try:
        from pip._vendor.packaging.requirements import Requirement
    except ImportError:
        Requirement = None


def problem(text):
    """What is wrong with a requirement here; nothing if it is met."""
    if Requirement is None:
        name, wanted = re.match(r"[A-Za-z0-9._-]+", text)[0], None
        if "extra ==" in text:
            return ""
    else:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return ""
        name, wanted = requirement.name, requirement.specifier
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
    if wanted is not None and not wanted.contains(version, prereleases=True):
        return f"{version} is installed"
    return ""


def smol_version():
    try:
        return importlib.metadata.version("smol")
    except importlib.metadata.PackageNotFoundError:
        return ""


problems = {text: problem(text) for text in sys.argv[1:]}
print(
    json.dumps(
        {
            "version": list(sys.version_info[:2]),
            "executable": sys.executable,
            "smol": smol_version(),
            "lacking": [
                f"{text.partition(';')[0].strip()} ({reason})" for text, reason in problems.items() if reason
            ],
        }
    )
)
