package unit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"smol.local/smol/internal/jsonscan"
)

const (
	descriptorVariable = "SMOL_WORKER_FD"
	specVariable       = "SMOL_WORKER_SPEC"
)

// Main serves the unit to the host that started this process, and ends the process. With the argument
// "describe" it writes what the unit offers as JSON instead.
func (u *Unit) Main() {
	if len(os.Args) == 2 && os.Args[1] == "describe" {
		os.Exit(u.printDescription())
	}
	spec, stream, err := inherit()
	if err != nil {
		fmt.Fprintf(os.Stderr, "this is a unit of Smol and is started by a host (%v): see 'smol unit add'\n", err)
		os.Exit(2)
	}
	signal.Ignore(syscall.SIGINT) // Ctrl-C is for the host, which drains its workers.
	if err := u.Run(context.Background(), stream, spec); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func (u *Unit) printDescription() int {
	if u.problem != nil {
		fmt.Fprintln(os.Stderr, u.problem)
		return 1
	}
	to := []byte("{")
	for i, operation := range u.describe("", "", true).Operations {
		if i > 0 {
			to = append(to, ",\n "...)
		}
		to = append(jsonscan.AppendString(to, operation.Name), `:{"summary":`...)
		to = jsonscan.AppendString(to, operation.Summary)
		to = append(append(to, `,"input":`...), operation.Input...)
		to = append(append(append(to, `,"output":`...), operation.Output...), '}')
	}
	fmt.Println(string(append(to, '}')))
	return 0
}

// inherit takes what the host left in the environment, and out of it.
func inherit() (Spec, net.Conn, error) {
	text, number := os.Getenv(specVariable), os.Getenv(descriptorVariable)
	os.Unsetenv(specVariable)
	os.Unsetenv(descriptorVariable)
	descriptor, err := strconv.Atoi(number)
	if err != nil || text == "" {
		return Spec{}, nil, fmt.Errorf("%s and %s are not set", specVariable, descriptorVariable)
	}
	spec, err := readSpec([]byte(text))
	if err != nil {
		return Spec{}, nil, fmt.Errorf("%s: %w", specVariable, err)
	}
	syscall.CloseOnExec(descriptor)
	file := os.NewFile(uintptr(descriptor), "host")
	defer file.Close()
	stream, err := net.FileConn(file)
	return spec, stream, err
}

// readSpec reads a worker's spec; members that it does not know are passed over.
func readSpec(data []byte) (Spec, error) {
	spec := Spec{Version: "0", LogFormat: "text", LogLevel: "info"}
	if err := jsonscan.Check(data); err != nil {
		return spec, err
	}
	units := 0
	err := jsonscan.Object(data, func(name, value []byte) (err error) {
		switch string(name) {
		case "describe_only":
			spec.DescribeOnly, err = jsonscan.Bool(value)
		case "log_format":
			spec.LogFormat, err = jsonscan.String(value)
		case "log_level":
			spec.LogLevel, err = jsonscan.String(value)
		case "units":
			err = jsonscan.Array(value, func(unit []byte) error {
				units++
				return readUnitSpec(&spec, unit)
			})
		}
		return err
	})
	if err == nil && units != 1 {
		err = fmt.Errorf("%d units: an executable serves its own unit only", units)
	}
	if err == nil && spec.Name == "" {
		err = errors.New("the unit has no name")
	}
	return spec, err
}

func readUnitSpec(spec *Spec, unit []byte) error {
	return jsonscan.Object(unit, func(name, value []byte) (err error) {
		switch string(name) {
		case "name":
			spec.Name, err = jsonscan.String(value)
		case "version":
			spec.Version, err = jsonscan.String(value)
		case "data_dir":
			spec.DataDir, err = jsonscan.String(value)
		case "cache_dir":
			spec.CacheDir, err = jsonscan.String(value)
		case "settings":
			spec.Settings = append([]byte(nil), value...)
		}
		return err
	})
}

func newLogger(spec Spec) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(spec.LogLevel)) // What it does not know is "info".
	options := &slog.HandlerOptions{Level: level}
	if spec.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options)).With("logger", "smol.units."+spec.Name)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options)).With("unit", spec.Name)
}
