package sdk

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// takeSecret reads what the calls of the gateway carry, from the descriptor that
// the environment names, and leaves neither to what this program starts. It is
// empty when the gateway is one that gives none.
func takeSecret() (string, error) {
	number := os.Getenv(wire.SecretKey)
	if number == "" {
		return "", nil
	}
	os.Unsetenv(wire.SecretKey)
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return "", fmt.Errorf("%s is %q, which is no descriptor", wire.SecretKey, number)
	}
	f := os.NewFile(uintptr(fd), "secret")
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s names no open descriptor: does what starts this program close it?", wire.SecretKey)
	case info.Mode()&os.ModeNamedPipe == 0:
		return "", fmt.Errorf("%s names another file than the gateway's pipe", wire.SecretKey)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 256))
	if secret := strings.TrimSpace(string(raw)); err == nil && secret != "" {
		return secret, nil
	}
	return "", errors.Join(errors.New("the gateway's pipe holds no secret"), err)
}

// only lets those calls through that carry secret; all when it is empty.
func only(secret string) []grpc.ServerOption {
	if secret == "" {
		return nil
	}
	check := func(ctx context.Context) error {
		said := metadata.ValueFromIncomingContext(ctx, wire.SecretHeader)
		if len(said) == 1 && subtle.ConstantTimeCompare([]byte(said[0]), []byte(secret)) == 1 {
			return nil
		}
		return status.Error(codes.Unauthenticated, "this plugin answers the gateway that has started it, and nobody else")
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := check(stream.Context()); err != nil {
				return err
			}
			return handle(server, stream)
		}),
	}
}
