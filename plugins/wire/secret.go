package wire

import (
	"context"
	"crypto/rand"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A Secret is known to one process of a plugin and to this one. Every call
// carries it, so that a plugin can tell ours from those of other plugins, which
// are processes of the same user and can reach its socket. It is handed over in
// a pipe that is empty once it was read: the environment of a process can be
// read by others all its life.
type Secret struct {
	text   string
	header metadata.MD // made once, since every call carries it
	from   *os.File    // for the plugin to read, once
}

// NewSecret returns a secret that nobody else has. Who starts a plugin with it
// lets it inherit the secret's pipe and names that in SecretKey, and closes it.
func NewSecret() (s Secret, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer to.Close()
	s = Secret{text: rand.Text(), from: from}
	s.header = metadata.Pairs(SecretHeader, s.text)
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

// Dial makes every call of a connection carry the secret. It travels over a Unix
// socket in a folder that only this user may enter. gRPC's own credentials of a
// call would do the same, but name the service that is called anew each time.
func (s Secret) Dial() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return invoke(traced(metadata.NewOutgoingContext(ctx, s.header)), method, req, answer, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, stream grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(traced(metadata.NewOutgoingContext(ctx, s.header)), desc, conn, method, options...)
		}),
	}
}
