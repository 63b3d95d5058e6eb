package door

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/core"
)

// A Journal writes failures to the log: numbers, kinds and causes, never a
// text. It is safe for concurrent use.
type Journal struct {
	log     *zap.Logger
	sampled *zap.Logger
}

// NewJournal returns a journal that writes to log.
func NewJournal(log *zap.Logger) *Journal {
	// When an upstream is down every request fails alike; some lines a second
	// tell as much as all of them.
	sample := zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 5, 100)
	})
	return &Journal{log: log, sampled: log.WithOptions(sample)}
}

// Failed notes that the request id failed with err. A defect of ours is an
// error, an upstream that failed is a warning, of which a few a second are
// written; anything else is the client's business and shows at debug level.
func (j *Journal) Failed(id string, err error) {
	e := core.AsError(err, "door")
	level, log, message := zap.DebugLevel, j.log, "request failed"
	switch e.Kind {
	case core.Internal:
		level, log, message = zap.ErrorLevel, j.sampled, "internal error"
	case core.ProviderFailed, core.ProviderRefused, core.BadAnswer, core.QuotaExceeded, core.Unavailable, core.RateLimited:
		if e.Cause != nil {
			level, log, message = zap.WarnLevel, j.sampled, "provider failed"
		}
	}
	ce := log.Check(level, message)
	if ce == nil {
		return
	}
	fields := []zap.Field{zap.String("request", id), zap.String("kind", string(e.Kind)), zap.String("stage", e.Stage)}
	switch e.Kind {
	case core.InvalidRequest, core.UnsupportedLanguage:
		// Field and Detail quote what the client wrote, which may be a text in
		// the wrong place.
	default:
		fields = append(fields, zap.String("detail", e.Detail))
	}
	ce.Write(append(fields, zap.NamedError("cause", e.Cause))...)
}

// Served notes a call that was answered with status.
func (j *Journal) Served(door, id, client string, status, texts int, took time.Duration) {
	if ce := j.log.Check(zap.DebugLevel, "served"); ce != nil {
		ce.Write(zap.String("door", door), zap.String("request", id), zap.String("client", client),
			zap.Int("status", status), zap.Int("texts", texts), zap.Duration("took", took))
	}
}
