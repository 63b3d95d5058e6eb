// Package live holds what a live session is made of: its policy (which revisions of a
// text that still grows are worth a call), its memory of sentences, the order of its
// finals, what a client is sent and may have missed, and its measures. It does no I/O
// and starts nothing: whoever drives it says what the time is, makes the calls that it
// asks for, and writes the frames that it has. Its README is the manual.
package live

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config is the section `live` of pipeline.yaml.
type Config struct {
	Agreement   int           `json:"agreement" jsonschema:"minimum=1,maximum=5" jsonschema_description:"How many revisions in a row must agree on a word for it to count as stable."`
	TailWords   int           `json:"tail_words" jsonschema:"minimum=0,maximum=40" jsonschema_description:"How many words that are not stable yet are translated along with those that are."`
	FirstWords  int           `json:"first_words" jsonschema:"minimum=1,maximum=40" jsonschema_description:"With so many words a sentence is translated for the first time, without waiting for interval."`
	Words       int           `json:"words" jsonschema:"minimum=1,maximum=40" jsonschema_description:"How many new words make a sentence that is not over worth another call."`
	Growth      float64       `json:"growth" jsonschema:"minimum=0,maximum=10" jsonschema_description:"And how many, as a share of what was translated of it last: 1 is as many again. The more of a sentence there is, the rarer are its calls."`
	Interval    time.Duration `json:"interval" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"How long after the first words of a sentence it is translated for the first time, however few they are."`
	Silence     time.Duration `json:"silence" jsonschema_extras:"minDuration=50ms,maxDuration=1m" jsonschema_description:"When a text has not changed for so long, all of it is translated."`
	Settle      time.Duration `json:"settle" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"A sentence that is over is concluded when its source has not changed for so long, and others have followed."`
	Mask        int           `json:"mask" jsonschema:"minimum=0,maximum=20" jsonschema_description:"How many words at the end of a translation are held back while its sentence grows, at most half of them: they change most."`
	Context     int           `json:"context" jsonschema:"minimum=0,maximum=10" jsonschema_description:"How many concluded sentences go along with the next one, for a provider that heeds context. 0: finals are what they are without a session, and the cache knows them from other sessions."`
	ContextSize int           `json:"context_size" jsonschema:"minimum=0,maximum=20000" jsonschema_description:"And how long they may be together, in code points of both languages."`
	Fillers     []string      `json:"fillers" jsonschema_description:"Texts that are passed on as they are, without a call, such as uhm."`

	Infer bool `json:"infer" jsonschema_description:"Whether clients that know nothing of sessions, and ask for a growing text again and again, are recognised: then only the texts that are worth it are translated, and the others get the latest translation of the same one, with the flag draft. The last text always gets its own."`

	QueueBudget  time.Duration `json:"queue_budget" jsonschema_extras:"minDuration=10ms,maxDuration=1m" jsonschema_description:"When calls wait longer than this for their turn, partials become rarer; at twice as long only finals are translated, and at three quarters of server.deadline by the cache and fallbacks alone. Clients get a notice."`
	ReorderWait  time.Duration `json:"reorder_wait" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"How long a final waits for those of earlier segments."`
	ResumeWindow time.Duration `json:"resume_window" jsonschema_extras:"minDuration=0s,maxDuration=1h" jsonschema_description:"How long a session without a connection can be continued."`
	Idle         time.Duration `json:"idle" jsonschema_extras:"minDuration=1s,maxDuration=24h" jsonschema_description:"How long a session may say nothing before it is ended."`
	MaxFrame     core.Size     `json:"max_frame" jsonschema_extras:"minSize=1KiB,maxSize=16MiB" jsonschema_description:"Largest frame of a client."`
	MaxSessions  int           `json:"max_sessions" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"Most sessions at the same time."`
	MaxTargets   int           `json:"max_targets" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Most target languages of a session."`
	MaxSegments  int           `json:"max_segments" jsonschema:"minimum=1,maximum=10000" jsonschema_description:"Most segments of a session that are open at the same time."`
}

// Defaults returns the values of the keys that a file leaves out. The README shows
// what they cost and what they give.
func Defaults() Config {
	return Config{
		Agreement: 3, TailWords: 0, FirstWords: 4, Words: 5, Growth: 1.5, Interval: 1100 * time.Millisecond, Silence: 1200 * time.Millisecond, Settle: 4 * time.Second, Mask: 4,
		Context: 2, ContextSize: 600,
		QueueBudget: 700 * time.Millisecond, ReorderWait: 2 * time.Second, ResumeWindow: 30 * time.Second, Idle: 10 * time.Minute,
		MaxFrame: 64 << 10, MaxSessions: 2000, MaxTargets: 16, MaxSegments: 256,
	}
}

const (
	// forget is how long the id of a segment that is over stays taken.
	forget = 10 * time.Minute
	// maxClosed bounds how many of those are remembered, the latest.
	maxClosed = 4096
	// MaxFinals and MaxBytes bound what waits for a client that does not read; MaxFinals and
	// maxKept what is kept for one that comes back.
	MaxFinals = 256
	MaxBytes  = 1 << 20
	maxKept   = MaxBytes * 3 / 4
)
