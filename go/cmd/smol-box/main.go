// The command smol-box serves Smol from one file: it carries Smol's wheel, and needs nothing but Python 3.11 or later.
//
//	smol-box [-python PATH] [-home DIRECTORY] [-socket PATH] [ARGUMENTS OF 'smol serve']
//
// Settings are those of Smol: smol.toml and SMOL_ variables. 'make box' builds it with the wheel in payload/.
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"smol.local/smol/bridge"
)

//go:embed all:payload
var payload embed.FS

func main() {
	var options bridge.Options
	flag.StringVar(&options.Python, "python", "", "interpreter to use (default: the first on the PATH that fits)")
	flag.StringVar(&options.Home, "home", "", "where Smol is unpacked and its environment is made")
	flag.StringVar(&options.Socket, "socket", "", "where the host listens")
	flag.Parse()
	options.Wheel, options.Arguments = payload, flag.Args()
	options.Progress = func(line string) { fmt.Fprintln(os.Stderr, "smol-box:", line) }
	os.Exit(run(options))
}

// run serves until a signal comes or the host is gone for good. It returns the exit status.
func run(options bridge.Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	smol, err := bridge.Start(ctx, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "smol-box:", err)
		return 1
	}
	options.Progress("Smol serves at " + smol.Socket())
	select {
	case <-ctx.Done():
		options.Progress("stopping")
	case <-smol.Done():
	}
	smol.Stop()
	if err := smol.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "smol-box:", err)
		return 1
	}
	return 0
}
