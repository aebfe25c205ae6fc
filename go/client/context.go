package client

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

type clientKey struct{}

// NewContext returns a context with which [Call] and [Stream] use a client. Without one they use a connection to
// the default host, made when it is first needed and shared.
func NewContext(ctx context.Context, client *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

var shared struct {
	sync.Mutex
	client *Client
}

func fromContext(ctx context.Context) (*Client, error) {
	if client, has := ctx.Value(clientKey{}).(*Client); has {
		return client, nil
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.client != nil {
		select {
		case <-shared.client.Closed():
		default:
			return shared.client, nil
		}
	}
	client, err := Connect(ctx, "")
	if err == nil {
		shared.client = client
	}
	return client, err
}

// DefaultSocket returns where the host of this user listens: $SMOL_SOCKET, run/smol.sock in $SMOL_HOME, or the
// platform's place.
func DefaultSocket() string {
	if socket := os.Getenv("SMOL_SOCKET"); socket != "" {
		return absolute(socket)
	}
	return filepath.Join(runtimeDirectory(), "smol.sock")
}

func runtimeDirectory() string {
	user := os.Geteuid()
	switch home, session := os.Getenv("SMOL_HOME"), os.Getenv("XDG_RUNTIME_DIR"); {
	case home != "":
		return filepath.Join(absolute(home), "run")
	case session != "":
		return filepath.Join(absolute(session), "smol")
	case user == 0:
		return "/run/smol"
	}
	return filepath.Join(os.TempDir(), "smol-"+strconv.Itoa(os.Geteuid()))
}

func absolute(path string) string {
	if home, err := os.UserHomeDir(); err == nil && len(path) > 1 && path[:2] == "~/" {
		path = filepath.Join(home, path[2:])
	}
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}
