package gateway

import (
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/core"
)

// logConfig is the section `log`.
type logConfig struct {
	Level  string        `json:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" jsonschema_description:"The least that is logged. Texts are not logged at any level."`
	Slow   time.Duration `json:"slow" jsonschema_extras:"minDuration=0s,maxDuration=10m" jsonschema_description:"A text that takes at least so long leaves a line at info; 0s: none does. One that fails, or that a fallback answers, always does, a few a second at most."`
	Access bool          `json:"access" jsonschema_description:"Every text leaves a line, whatever level says: who asked for it, how long it took, what it cost. Texts are not logged."`
	Format string        `json:"format" jsonschema:"enum=console,enum=json" jsonschema_description:"console for people, json for machines."`
}

func logDefaults() logConfig { return logConfig{Level: "info", Slow: time.Second, Format: "console"} }

// newLog returns the process's log, and what brings its lines to standard
// error, which the caller closes. The standard library's own logger, which
// net/http writes to, goes there too, as debug: it tells of connections that
// servers closed, which the pool counts.
func newLog(c logConfig) (*zap.Logger, *logOutput) {
	logger, out := newLogTo(os.Stderr, c)
	std, err := zap.NewStdLogAt(logger.Named("net"), zapcore.DebugLevel)
	if err == nil {
		log.SetOutput(unquoted{std.Writer()})
		log.SetFlags(0)
	}
	return logger, out
}

// An unquoted writer drops what stands between quotes. Net/http quotes what a server
// sent that nobody asked for, and that may be somebody's text.
type unquoted struct{ io.Writer }

var betweenQuotes = regexp.MustCompile(`"(?:[^"\\]|\\.)*("|$)`)

func (u unquoted) Write(line []byte) (int, error) {
	if _, err := u.Writer.Write(betweenQuotes.ReplaceAll(line, []byte(`"..."`))); err != nil {
		return 0, err
	}
	return len(line), nil
}

func newLogTo(w io.Writer, c logConfig) (*zap.Logger, *logOutput) {
	o := &logOutput{level: zap.NewAtomicLevel()}
	if apply, err := o.Plan(&c); err == nil { // the schema has refused any other
		apply()
	}
	o.logWriter = newLogWriter(w, o.note)
	o.log = zap.New(logCore{out: o, whole: true}).Named("access")
	return zap.New(logCore{out: o}), o
}

// A logOutput writes what is logged as the section `log` says at the time. It is
// safe for concurrent use.
type logOutput struct {
	*logWriter
	level   zap.AtomicLevel
	encoder atomic.Pointer[zapcore.Encoder]
	slow    atomic.Int64 // nanoseconds
	access  atomic.Bool
	log     *zap.Logger // of access
}

// Access is the access log; nil when there is none.
func (o *logOutput) Access() *zap.Logger {
	if !o.access.Load() {
		return nil
	}
	return o.log
}

// Slow is how long a text takes at least to leave a line.
func (o *logOutput) Slow() time.Duration { return time.Duration(o.slow.Load()) }

var _ core.Planner = (*logOutput)(nil)

// Plan takes another section `log` in place: for every line after apply, of
// whichever logger.
func (o *logOutput) Plan(config any) (apply func(), err error) {
	c, ok := config.(*logConfig)
	if !ok {
		return nil, fmt.Errorf("log: planned with a %T, want a %T", config, c)
	}
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	encoder := newEncoder(c.Format)
	return func() {
		o.level.SetLevel(level)
		o.encoder.Store(&encoder)
		o.slow.Store(int64(c.Slow))
		o.access.Store(c.Access)
	}, nil
}

func newEncoder(format string) zapcore.Encoder {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.TimeKey = "time"
	if format != "console" {
		return zapcore.NewJSONEncoder(enc)
	}
	enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	enc.EncodeLevel = zapcore.CapitalLevelEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	return zapcore.NewConsoleEncoder(enc)
}

// note is the line that says how many are missing.
func (o *logOutput) note(dropped int64) []byte {
	line, err := (*o.encoder.Load()).EncodeEntry(
		zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines were dropped, since nobody read them"},
		[]zapcore.Field{zap.Int64("dropped", dropped)})
	if err != nil {
		return nil
	}
	defer line.Free()
	return slices.Clone(line.Bytes())
}

// A logCore is what zap's own core is, but that its format may change: so what a
// logger was given with With is kept as fields, and not as text.
type logCore struct {
	out   *logOutput
	with  []zapcore.Field
	whole bool // every line is written, whatever its level
}

func (c logCore) Enabled(l zapcore.Level) bool { return c.whole || c.out.level.Enabled(l) }

func (c logCore) With(fields []zapcore.Field) zapcore.Core {
	return logCore{c.out, slices.Concat(c.with, fields), c.whole}
}

func (c logCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if len(c.with) > 0 {
		fields = slices.Concat(c.with, fields)
	}
	line, err := (*c.out.encoder.Load()).EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer line.Free()
	_, err = c.out.Write(line.Bytes())
	return err
}

func (c logCore) Sync() error { return nil }
