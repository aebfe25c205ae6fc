// The command verdict reads message headers from its input, one a line in hexadecimal, and says of each what this
// implementation makes of it: its type, "unknown" or "refused". A test compares that with Python's verdict.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"

	"smol.local/smol/wire"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		header, err := hex.DecodeString(lines.Text())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if message, err := wire.DecodeMessage(header); err != nil {
			fmt.Fprintln(out, "refused")
		} else {
			fmt.Fprintln(out, message.Kind())
		}
	}
}
