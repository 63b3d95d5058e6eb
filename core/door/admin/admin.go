// Package admin is the operators' door: the page at /, /metrics, /healthz, /readyz,
// /admin/status, /admin/recent, /admin/tap, and what changes the gateway while it runs: /admin/reload
// and /admin/plugins/NAME/restart. Its README is the manual.
package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/history"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// Options are what the door tells about. All functions may be called at any
// time from any goroutine, and return soon.
type Options struct {
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Ready returns nil when a text could be translated now, else why not.
	Ready func() error
	// Status tells what is being served.
	Status func() Status
	// Reload serves what the configuration's file holds now, or what else it is
	// asked for. Unlike the others it takes a while.
	Reload func(context.Context, ReloadAsked) Reload
	// Kept lists what can be gone back to, latest first.
	Kept func() ([]Kept, error)
	// Restart starts another process of a plugin, and returns when that serves or
	// has failed to. Its error is that there is no such plugin.
	Restart func(ctx context.Context, name string) (Restart, error)
	// Usage tells what was used in a month, by what is asked for; without it there is
	// no /admin/usage. A *usage.BadReport says what there is not.
	Usage func(by, month string) (usage.Report, error)
	// Notice says what does not keep texts from being translated, and an operator should
	// know all the same; empty for nothing.
	Notice func() string
	// Recent lists the texts that are looked back at, latest first, in memory of the
	// caller's.
	Recent func() []door.Past
	// Sessions lists the live sessions that are open, of which there may be many.
	Sessions func() []Session
	// Group tells who shares what with this gateway; nil for nobody. Without it there is no
	// /admin/cluster.
	Group func() *Group
	// Record records what the live sessions of a name take, all when it is empty, with
	// their texts or without.
	Record func(session string, texts bool) (*Recording, error)
	// Tap opens a tap on what passes the stages; without it there is no
	// /admin/tap.
	Tap func(chain.Filter) (*chain.Tap, error)
	// Configuration explains what serves; nil for nothing.
	Configuration func() Configuration
	// History is what was counted in the last hour, nil for none.
	History *history.History
	// Service knows which browsers are signed in at the page; without it nobody signs in.
	Service *door.Service
	// Stopping is closed when the gateway begins to stop: taps end then.
	Stopping <-chan struct{}
	Log      *zap.Logger
}

// Status is what /admin/status tells. It holds no key and no text.
type Status struct {
	Version string `json:"version"`
	// Config is the file that is served; Hash changes with its content.
	Config string `json:"config"`
	Hash   string `json:"hash,omitempty"`
	// Generation counts the configurations served so far, from 1.
	Generation int64     `json:"generation"`
	Loaded     time.Time `json:"loaded,omitzero"`
	// FileDiffers says that the file on disk is not what is served.
	FileDiffers bool `json:"file_differs"`
	// LastReload is nil before the first.
	LastReload *Reload `json:"last_reload,omitempty"`
	// Stages and Providers are names in the order of the file.
	Stages    []string `json:"stages,omitempty"`
	Providers []string `json:"providers,omitempty"`
	// Routes are the ways that a request may go, in the order in which they are asked;
	// the last is that of what none takes.
	Routes []Route `json:"routes,omitempty"`
	// Accounts are those of entries that list several, by the names that metrics have.
	Accounts []Account `json:"accounts,omitempty"`

	// Plugins are the programs that run out of process.
	Plugins []Plugin `json:"plugins,omitempty"`

	// The rest is filled in by the door.
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Ready         bool      `json:"ready"`
	NotReady      string    `json:"not_ready,omitempty"` // why
	// Notice is what should be looked at though texts are translated.
	Notice string `json:"notice,omitempty"`
}

// A Route is one way of requests. To says which it takes and who translates them.
type Route struct {
	Name string `json:"name"`
	To   string `json:"to"`
}

// An Account is one of several that an entry of providers has.
type Account struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
}

// A Plugin is one program that runs out of process.
type Plugin struct {
	Program string   `json:"program"`
	Version string   `json:"version,omitempty"`
	Serves  []string `json:"serves"` // entries of the file
	// State is starting, ready, degraded, backoff, failed or stopped; the log
	// says why.
	State       string `json:"state"`
	PID         int    `json:"pid,omitempty"`
	Restarts    int64  `json:"restarts"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
}

// A Session is a live session that is open.
type Session struct {
	Client  string          `json:"client"`
	Session string          `json:"session"`
	Epoch   int64           `json:"epoch"`
	Targets []core.Language `json:"targets"`
	// Connected is false while its client may come back.
	Connected bool `json:"connected"`
	// The rest are its measures; see the manual of core/live.
	Seconds       float64 `json:"seconds"`
	Segments      int64   `json:"segments"`
	Revisions     int64   `json:"revisions"`
	Finals        int64   `json:"finals"`
	Failed        int64   `json:"failed"`
	Late          int64   `json:"late"`
	Corrected     int64   `json:"corrected"`
	Calls         int64   `json:"calls"`
	Wasted        int64   `json:"wasted"`
	Amplification float64 `json:"amplification"`
	Erasure       float64 `json:"erasure"`
	OnTime        float64 `json:"on_time"`
	FinalP50MS    float64 `json:"final_p50_ms"`
	FinalP99MS    float64 `json:"final_p99_ms"`
	DraftP50MS    float64 `json:"first_draft_p50_ms"`
	StableP50MS   float64 `json:"stable_p50_ms"`
	QueueMS       int64   `json:"queue_ms"`
	Level         int     `json:"level"`
	Tokens        int64   `json:"tokens"`
	// Cost is empty without prices in the configuration.
	Cost usage.Cost `json:"cost,omitempty"`
}

// maxScrapes bounds scrapes at once, and scrapeTimeout is how long one has to
// be read, as long as Prometheus waits for one. So scrapers that hang cost no
// more than a few answers and their connections, and keep others away for so
// long at most.
const (
	maxScrapes    = 8
	scrapeTimeout = 10 * time.Second
)

// New returns the handler of the door. It asks for no key: door.Server does
// that where one is needed.
func New(o Options) http.Handler {
	a := &admin{o: o, started: time.Now()}
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog:            scrapeLog{o.Log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true, // the only format with exemplars
	})
	mux.Handle("/metrics", get(func(w http.ResponseWriter, r *http.Request) {
		// It holds for this answer alone; where none can be set, the listener's
		// own does.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout))
		metrics.ServeHTTP(scrape{w}, r)
	}))
	for _, path := range []string{"/healthz", "/livez", "/health"} {
		mux.Handle(path, get(func(w http.ResponseWriter, r *http.Request) {
			door.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
		}))
	}
	mux.Handle("/readyz", get(a.ready))
	mux.Handle("/admin/status", get(a.status))
	mux.Handle("/admin/reload", post(a.reload))
	mux.Handle("/admin/kept", get(a.kept))
	mux.Handle("/admin/plugins/{name}/restart", post(a.restart))
	if o.Usage != nil {
		mux.Handle("/admin/usage", get(a.usage))
	}
	if o.Recent != nil {
		mux.Handle("/admin/recent", get(a.recent))
	}
	if o.Sessions != nil {
		mux.Handle("/admin/sessions", get(func(w http.ResponseWriter, r *http.Request) {
			all := o.Sessions()
			if all == nil {
				all = []Session{}
			}
			door.WriteJSON(w, http.StatusOK, map[string]any{"sessions": all})
		}))
	}
	if o.Group != nil {
		mux.Handle("/admin/cluster", get(a.group))
	}
	if o.Record != nil {
		mux.Handle("/admin/record", get(a.record))
	}
	if o.Tap != nil {
		mux.Handle("/admin/tap", get(a.tap))
	}
	a.handlePage(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		door.WriteError(w, r, &core.Error{Kind: core.NotFound, Detail: "there is nothing at this address; /, /metrics, /healthz, /readyz, /admin/status, /admin/sessions, /admin/cluster, /admin/usage, /admin/recent, /admin/tap, /admin/kept, /admin/reload and /admin/plugins/NAME/restart are"})
	})
	return mux
}

type admin struct {
	o       Options
	started time.Time
}

func get(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if door.Allow(w, r, http.MethodGet) {
			h(w, r)
		}
	})
}

func (a *admin) ready(w http.ResponseWriter, r *http.Request) {
	if a.o.Ready() != nil {
		// Anybody may ask: who translates, and where, is for operators.
		door.WriteError(w, r, &core.Error{Kind: core.Unavailable, Detail: "not ready: no text can be translated at the moment; /admin/status tells operators why"})
		return
	}
	answer := map[string]string{"status": "ready"}
	if a.notice() != "" {
		answer["notice"] = "something should be looked at; /admin/status tells operators what"
	}
	door.WriteJSON(w, http.StatusOK, answer)
}

func (a *admin) notice() string {
	if a.o.Notice == nil {
		return ""
	}
	return a.o.Notice()
}

func (a *admin) usage(w http.ResponseWriter, r *http.Request) {
	by, month, err := usageQuery(r.URL.RawQuery)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	report, err := a.o.Usage(by, month)
	if bad, ok := errors.AsType[*usage.BadReport](err); ok {
		door.WriteError(w, r, &core.Error{Kind: core.InvalidRequest, Detail: bad.Error()})
		return
	}
	if err != nil {
		door.WriteError(w, r, &core.Error{Kind: core.Unavailable, Stage: "usage", Detail: err.Error(), Cause: err})
		return
	}
	door.WriteJSON(w, http.StatusOK, report)
}

// usageQuery reads what is asked for.
func usageQuery(raw string) (by, month string, err error) {
	err = parameters(raw, func(name, value string) error {
		switch name {
		case "by":
			by = value
		case "month":
			month = value
		default:
			return wrong(name, "there is no %.40q to ask for; there are by and month", name)
		}
		return nil
	})
	return by, month, err
}

// detail returns what of err the public may read: the place and the detail of
// each error that err joins, never a cause.
func detail(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, err := range joined.Unwrap() {
			all = append(all, detail(err))
		}
		return strings.Join(all, "; ")
	}
	e := core.AsError(err, "")
	said := e.Detail
	if said == "" {
		said = door.Answer(e.Kind).Meaning
	}
	place, named := strings.CutSuffix(err.Error(), e.Error())
	if !named || place == "" {
		if e.Stage == "" {
			return said
		}
		place = e.Stage + ": "
	}
	return place + said
}

func (a *admin) status(w http.ResponseWriter, r *http.Request) {
	door.WriteJSON(w, http.StatusOK, a.now())
}

// now is what Options.Status tells, with what the door knows.
func (a *admin) now() Status {
	s := a.o.Status()
	s.Started = a.started.UTC().Truncate(time.Second)
	s.UptimeSeconds = int64(time.Since(a.started).Seconds())
	s.Notice = a.notice()
	if err := a.o.Ready(); err != nil {
		s.NotReady = detail(err)
	} else {
		s.Ready = true
	}
	return s
}

// scrape ends an answer at the first failure to write it. Else promhttp would
// go on, and log one line for each metric that is left.
type scrape struct{ http.ResponseWriter }

func (s scrape) Write(b []byte) (int, error) {
	n, err := s.ResponseWriter.Write(b)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// scrapeLog is zap as promhttp wants it.
type scrapeLog struct{ log *zap.Logger }

func (l scrapeLog) Println(v ...any) { l.log.Sugar().Warnln(v...) }
