package host

import (
	"context"
	"crypto/rand"
	"os"

	"google.golang.org/grpc/credentials"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A secret is known to one process of a plugin and to this one. Every call
// carries it, so that a plugin can tell ours from those of other plugins, which
// are processes of the same user and can reach its socket. It is handed over in
// a pipe that is empty once it was read: the environment of a process can be
// read by others all its life.
type secret struct {
	text   string
	header map[string]string // made once, since every call asks for it
	from   *os.File          // for the plugin to read
}

var _ credentials.PerRPCCredentials = secret{}

func newSecret() (s secret, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer to.Close()
	s = secret{text: rand.Text(), from: from}
	s.header = map[string]string{wire.SecretHeader: s.text}
	if _, err := to.WriteString(s.text + "\n"); err != nil { // it has room for that
		from.Close()
		return s, err
	}
	return s, nil
}

func (s secret) close() { s.from.Close() }

func (s secret) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return s.header, nil
}

// RequireTransportSecurity says no: it travels over a Unix socket in a folder
// that only this user may enter.
func (s secret) RequireTransportSecurity() bool { return false }
