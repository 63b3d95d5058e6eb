package main

import (
	"log"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logConfig is the section `log`.
type logConfig struct {
	Level  string `json:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" jsonschema_description:"The least that is logged. Texts are not logged at any level."`
	Format string `json:"format" jsonschema:"enum=console,enum=json" jsonschema_description:"console for people, json for machines."`
}

func logDefaults() logConfig { return logConfig{Level: "info", Format: "console"} }

// newLog returns the process's log, and what brings its lines to standard
// error, which the caller closes. The standard library's own logger, which
// net/http writes to, goes there too, as debug: it tells of connections that
// servers closed, which the pool counts.
func newLog(c logConfig) (*zap.Logger, *logWriter) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		level = zapcore.InfoLevel // the schema has refused anything else
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.TimeKey = "time"
	encoder := zapcore.NewJSONEncoder(enc)
	if c.Format == "console" {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.EncodeDuration = zapcore.StringDurationEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	w := newLogWriter(os.Stderr, func(dropped int64) []byte {
		line, err := encoder.EncodeEntry(
			zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines were dropped, since nobody read them"},
			[]zapcore.Field{zap.Int64("dropped", dropped)})
		if err != nil {
			return nil
		}
		defer line.Free()
		return append([]byte(nil), line.Bytes()...)
	})
	logger := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), level))
	std, err := zap.NewStdLogAt(logger.Named("net"), zapcore.DebugLevel)
	if err == nil {
		log.SetOutput(std.Writer())
		log.SetFlags(0)
	}
	return logger, w
}
