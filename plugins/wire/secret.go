package wire

import (
	"context"
	"crypto/rand"
	"os"

	"google.golang.org/grpc/credentials"
)

// A Secret is known to one process of a plugin and to this one. Every call
// carries it, so that a plugin can tell ours from those of other plugins, which
// are processes of the same user and can reach its socket. It is handed over in
// a pipe that is empty once it was read: the environment of a process can be
// read by others all its life.
type Secret struct {
	text   string
	header map[string]string // made once, since every call asks for it
	from   *os.File          // for the plugin to read, once
}

var _ credentials.PerRPCCredentials = Secret{}

// NewSecret returns a secret that nobody else has. Who starts a plugin with it
// lets it inherit the secret's pipe and names that in SecretKey, and closes it.
func NewSecret() (s Secret, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer to.Close()
	s = Secret{text: rand.Text(), from: from}
	s.header = map[string]string{SecretHeader: s.text}
	if _, err := to.WriteString(s.text + "\n"); err != nil { // it has room for that
		from.Close()
		return s, err
	}
	return s, nil
}

// Pipe is what the plugin reads the secret from.
func (s Secret) Pipe() *os.File { return s.from }

// Close closes the pipe on this side.
func (s Secret) Close() { s.from.Close() }

func (s Secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return s.header, nil
}

// RequireTransportSecurity says no: it travels over a Unix socket in a folder
// that only this user may enter.
func (s Secret) RequireTransportSecurity() bool { return false }
