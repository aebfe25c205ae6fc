"""What `smol unit new` writes: a small unit that works, in each language, with its manifest and a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from smol.host.golang import MODULE, sdk_directory

__all__ = ["LANGUAGES"]

_PYTHON_MANIFEST = """\
[unit]
name = "{name}"
class = "{name}:{title}"
description = "Greets people."
"""

_PYTHON_CODE = '''\
"""The unit `{name}`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from smol.sdk import Unit, operation


class Greeting(msgspec.Struct, frozen=True):
    """What is said, and how often."""

    text: str
    times: int


class {title}(Unit):
    """Greets people."""

    @operation(read_only=True)
    async def greet(self, name: str, times: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1) -> Greeting:
        """Greet somebody.

        name: whom to greet.
        times: how often.
        """
        return Greeting(", ".join([f"hello {{name}}"] * times), times)
'''

_PYTHON_TEST = '''\
"""Run with `pytest`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import smol
from smol.errors import InvalidArgument

from {name} import {title}

HERE = Path(__file__).parent


def test_it_greets() -> None:
    assert asyncio.run({title}().greet("you", 2)).text == "hello you, hello you"


def test_it_greets_through_a_host(tmp_path: Path) -> None:
    settings = {{"SMOL_HOME": str(tmp_path), "SMOL_HOST_UNIT_DIRECTORIES": str(HERE)}}
    with smol.local(settings) as s:
        assert s.{name}.greet("you")["text"] == "hello you"
        with pytest.raises(InvalidArgument):
            s.{name}.greet("you", times=11)
'''

_GO_MANIFEST = """\
[unit]
name = "{name}"
go = "."
description = "Greets people."
"""

_GO_MODULE = """\
module {name}

go 1.24

require {module} v0.0.0

// For 'go test' and editors; 'smol unit add' uses the module of the Smol that runs.
replace {module} => {sdk}
"""

_GO_MAIN = """\
// The unit {name}.
package main

import "{module}/unit"

func main() {{ newUnit().Main() }}

func newUnit() *unit.Unit {{
	g := &greeter{{}}
	u := unit.New("Greets people.", g)
	unit.Operation(u, "greet", "Greet somebody.", g.greet, unit.ReadOnly)
	return u
}}
"""

_GO_CODE = """\
package main

import (
	"context"
	"strings"
)

// greeter greets people.
type greeter struct{{}}

type greetInput struct {{
	Name  string `json:"name" doc:"whom to greet."`
	Times int    `json:"times" default:"1" min:"1" max:"10" doc:"how often."`
}}

// greeting is what is said, and how often.
type greeting struct {{
	Text  string `json:"text"`
	Times int    `json:"times"`
}}

func (g *greeter) greet(_ context.Context, in greetInput) (greeting, error) {{
	words := make([]string, in.Times)
	for i := range words {{
		words[i] = "hello " + in.Name
	}}
	return greeting{{strings.Join(words, ", "), in.Times}}, nil
}}
"""

_GO_TEST = """\
package main

import (
	"context"
	"errors"
	"testing"

	"{module}/client"
	"{module}/unit/unittest"
	"{module}/wire"
)

func TestItGreets(t *testing.T) {{
	s := unittest.Serve(t, "{name}", newUnit(), "")
	ctx := client.NewContext(context.Background(), s)
	said, err := client.Call[greeting](ctx, "{name}.greet", client.Args{{"name": "you", "times": 2}})
	if err != nil || said.Text != "hello you, hello you" {{
		t.Errorf("%v, %v", said, err)
	}}
	_, err = client.Call[greeting](ctx, "{name}.greet", client.Args{{"name": "you", "times": 11}})
	if !errors.Is(err, wire.InvalidArgument) {{
		t.Errorf("eleven times: %v", err)
	}}
}}
"""


def _python(name: str) -> dict[str, str]:
    words = {"name": name, "title": name.title().replace("_", "")}
    files = {"unit.toml": _PYTHON_MANIFEST, f"{name}.py": _PYTHON_CODE, f"test_{name}.py": _PYTHON_TEST}
    return {file: text.format(**words) for file, text in files.items()}


def _go(name: str) -> dict[str, str]:
    words = {"name": name, "module": MODULE, "sdk": str(sdk_directory())}
    files = {
        "unit.toml": _GO_MANIFEST,
        "go.mod": _GO_MODULE,
        "main.go": _GO_MAIN,
        "greeter.go": _GO_CODE,
        "greeter_test.go": _GO_TEST,
    }
    return {file: text.format(**words) for file, text in files.items()}


LANGUAGES: Mapping[str, Callable[[str], dict[str, str]]] = {"go": _go, "python": _python}
"""The files of a new unit, by language and name."""
