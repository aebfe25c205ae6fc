package unit_test

import (
	"context"
	"fmt"
	"strings"

	"smol.local/smol/unit"
)

type greeter struct{}

type greetInput struct {
	Name  string `json:"name" doc:"whom to greet."`
	Times int    `json:"times" default:"1" min:"1" max:"10"`
}

func (g *greeter) greet(_ context.Context, in greetInput) (string, error) {
	return strings.Repeat("hello "+in.Name+" ", in.Times), nil
}

// A unit is a struct with operations; what callers see follows from their types and tags.
func Example() {
	g := &greeter{}
	u := unit.New("Greets people.", g)
	unit.Operation(u, "greet", "Greet somebody.", g.greet, unit.ReadOnly)
	// In a program, what follows is u.Main().
	description, err := u.Describe("greeter", "1")
	if err != nil {
		panic(err)
	}
	fmt.Println(string(description.Operations[0].Input))
	// Output:
	// {"title":"Input","type":"object","properties":{"name":{"type":"string","description":"whom to greet."},"times":{"type":"integer","minimum":1,"maximum":10,"default":1}},"required":["name"],"additionalProperties":false}
}
