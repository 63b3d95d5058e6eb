package gateway

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/grpclog"
)

// inItsFormat returns err once it was said in the format of the log, when that is
// JSON: whoever reads the lines of a gateway expects nothing else there, least of all
// from one that could not serve. Else the caller says it.
func inItsFormat(cmd *cobra.Command, f *flags, content []byte, err error) error {
	if err == nil || errors.Is(err, errSaid) || !logsJSON(f, content) {
		return err
	}
	say(cmd.ErrOrStderr(), zapcore.ErrorLevel, err.Error())
	return errSaid
}

// logsJSON says whether the log of a gateway is JSON, as far as the file can be
// understood: it may be one that cannot be served.
func logsJSON(f *flags, content []byte) bool {
	format := ""
	for _, set := range f.set {
		if key, value, ok := strings.Cut(set, "="); ok && key == "log.format" {
			format = value
		}
	}
	if format == "" {
		var file struct {
			Log struct {
				Format string `yaml:"format"`
			} `yaml:"log"`
		}
		_ = yaml.Unmarshal(content, &file) // what can be understood of it
		format = file.Log.Format
	}
	return format == "json"
}

// say writes one line of JSON as the log does, for what is said before there is a
// log, or after it.
func say(w io.Writer, level zapcore.Level, message string) {
	log, out := newLogTo(w, logConfig{Level: "info", Format: "json"})
	log.Log(level, message)
	out.Close()
}

// quietGRPC keeps gRPC from writing lines of its own to standard error: what goes
// wrong with a plugin is in the errors of its calls.
func quietGRPC() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// temporary says in one line that no file can be made in the temporary folder, and
// what that takes away.
func temporary() error {
	dir, err := os.MkdirTemp("", "dragoman-probe-")
	if err == nil {
		return os.Remove(dir)
	}
	return fmt.Errorf("the temporary folder %s cannot be written to: %w; plugins need it for their sockets, so set TMPDIR to a folder that can", os.TempDir(), cause(err))
}

// cause is err without the path that it begins with.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
