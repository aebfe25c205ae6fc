package bridge_test

import (
	"context"
	"embed"
	"fmt"
	"os"

	"smol.local/smol/bridge"
	"smol.local/smol/client"
)

// In a program this has a line //go:embed smol-*.whl scripts
var carried embed.FS

func ExampleStart() {
	ctx := context.Background()
	s, err := bridge.Start(ctx, bridge.Options{
		Wheel:    carried,
		Progress: func(line string) { fmt.Fprintln(os.Stderr, line) },
	})
	if err != nil {
		panic(err) // It says what this machine lacks.
	}
	defer s.Stop()
	answer, err := client.Call[any](s.Context(ctx), "math.evaluate", client.Args{"expression": "2/3"})
	fmt.Println(answer, err)
	count, err := bridge.RunScript[int](ctx, s, carried, "scripts/count.py", "photos")
	fmt.Println(count, err)
}
