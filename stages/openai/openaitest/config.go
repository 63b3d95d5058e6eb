package openaitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Config says how the server behaves. Every field may stay zero. Those that
// carry a JSON key can be changed while the server runs, with Configure or
// POST /sim/config; the others count at Start alone.
type Config struct {
	// Listen is the address; a free port of 127.0.0.1 when empty.
	Listen string `json:"-"`
	// TLS serves HTTPS, HTTP/1.1 and HTTP/2 by ALPN, with a certificate for
	// localhost, 127.0.0.1 and ::1 from a CA made for this server; see
	// Server.CA.
	TLS bool `json:"-"`
	// Seed makes the random choices: two servers with the same seed choose the
	// same for their n-th chat request.
	Seed uint64 `json:"-"`
	// Engine translates; Pseudo when nil. The caller closes what it holds.
	Engine Engine `json:"-"`
	// Log gets one line for each request, with its id: at level info with the
	// fault that it met, else debug; never a text or a key. None when nil.
	Log *zap.Logger `json:"-"`
	// Observe, when set, sees each chat request before it is answered. It may
	// be called from many goroutines at once.
	Observe func(r *http.Request, body []byte) `json:"-"`
	// Ended, when set, gets the record of each chat request when it has ended,
	// before Settled returns. It may be called from many goroutines at once.
	Ended func(Record) `json:"-"`
	// Keys are the API keys taken. When empty, any that is not empty is.
	Keys []string `json:"-"`

	// Models are what is served; DefaultModels when empty.
	Models []Model `json:"models,omitempty"`
	// NoModels leaves /models out, as some compatible servers do.
	NoModels bool `json:"no_models"`
	// ModelsFault is the fault of every request to /models; none when empty.
	ModelsFault string `json:"models_fault,omitempty"`
	// Bare leaves out the headers that only OpenAI itself sends.
	Bare bool `json:"bare"`

	// Latency is the time from a request read to the first byte of its answer:
	// the median when LatencyP99 is greater, which makes it log-normal, else
	// always.
	Latency    time.Duration `json:"latency"`
	LatencyP99 time.Duration `json:"latency_p99"`
	// TokensPerSecond is how fast a stream flows, and what a plain answer takes
	// beyond Latency. 0 is at once.
	TokensPerSecond float64 `json:"tokens_per_second"`
	// RTT is the network round trip to emulate on new connections: each pays
	// one, its TLS handshake one more, and each request one.
	RTT time.Duration `json:"rtt"`

	// RPM and TPM are the limits of requests and tokens a minute, 0 for none.
	// Both are buckets that hold a minute's worth and fill evenly.
	RPM int `json:"rpm"`
	TPM int `json:"tpm"`
	// RetryAfter is what the fault 429 tells the client; 1 s when 0.
	RetryAfter time.Duration `json:"retry_after"`

	// IdleTimeout closes a connection that has been idle for so long after an
	// answer, FreshTimeout one that has not carried a request yet. 0 is never.
	IdleTimeout  time.Duration `json:"idle_timeout"`
	FreshTimeout time.Duration `json:"fresh_timeout"`
	// MaxAge ends a connection that is older with its next answer, or when it
	// is idle. 0 is never.
	MaxAge time.Duration `json:"max_age"`
	// Stale resets a connection that is older when a request arrives on it. 0
	// is never.
	Stale time.Duration `json:"stale"`
	// Forget stands for a firewall on the way, or a NAT, that forgets a
	// connection on which nothing has passed for longer: what the client sends
	// on it after that is lost, and never answered. 0 is never. One that is used
	// as soon as it was made is spared.
	Forget time.Duration `json:"forget"`
	// ForgetReset is how long after the first loss that firewall resets the
	// connection. With 0 it never does, and the client waits in vain.
	ForgetReset time.Duration `json:"forget_reset"`

	// Faults are rates between 0 and 1 by kind; together at most 1. The kinds
	// are the constants of this package.
	Faults map[string]float64 `json:"faults,omitempty"`
	// Schedule is what happens to the next chat requests, before Faults has a
	// say. Server.FailNext adds to it.
	Schedule []Step `json:"schedule,omitempty"`
	// Drip is the time between two bytes of the fault drip; 100 ms when 0.
	Drip time.Duration `json:"drip"`
}

// A Step is a fault for a number of chat requests. The kind "" is no fault.
type Step struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// A Model is one that the server serves.
type Model struct {
	ID string `json:"id"`
	// ShutdownDate (YYYY-MM-DD) is when it goes away; null in the answer when
	// empty.
	ShutdownDate string `json:"shutdown_date,omitempty"`
	// Refuses are the parameters that it takes no part in: "temperature" is
	// answered with unsupported_parameter, "reasoning_effort=none" with
	// unsupported_value for that value alone.
	Refuses []string `json:"refuses,omitempty"`
	// ContextTokens is the most that a prompt may have; 128,000 when 0.
	ContextTokens int `json:"context_tokens,omitempty"`
}

// DefaultModels are the small models of late 2026 and two that are about to go.
func DefaultModels() []Model {
	return []Model{
		{ID: "gpt-5.4-nano"},
		{ID: "gpt-6-luna"},
		{ID: "gpt-4.1-mini", ShutdownDate: "2027-01-14"},
		{ID: "gpt-4o-mini", ShutdownDate: "2027-01-14"},
	}
}

// Profile sets latency and round trip to those of a name: steady (p50 300 ms,
// p99 400 ms) or rough (p50 300 ms, p99 900 ms), both 50 ms away.
func (c *Config) Profile(name string) error {
	switch name {
	case "steady":
		c.LatencyP99 = 400 * time.Millisecond
	case "rough":
		c.LatencyP99 = 900 * time.Millisecond
	default:
		return fmt.Errorf("profile %q: there are steady and rough", name)
	}
	c.Latency, c.RTT = 300*time.Millisecond, 50*time.Millisecond
	return nil
}

// check fills in defaults and finds what cannot be obeyed.
func (c *Config) check() error {
	if len(c.Models) == 0 {
		c.Models = DefaultModels()
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = time.Second
	}
	if c.Drip == 0 {
		c.Drip = 100 * time.Millisecond
	}
	for i, m := range c.Models {
		if m.ID == "" {
			return fmt.Errorf("models[%d]: id is empty", i)
		}
	}
	for key, d := range c.durations() {
		if *d < 0 {
			return fmt.Errorf("%s: %v is negative", key, *d)
		}
	}
	if c.RPM < 0 || c.TPM < 0 || c.TokensPerSecond < 0 {
		return fmt.Errorf("rpm, tpm and tokens_per_second cannot be negative")
	}
	sum := 0.0
	for kind, rate := range c.Faults {
		if !slices.Contains(Kinds(), kind) {
			return fmt.Errorf("faults: unknown kind %q; there are %v", kind, Kinds())
		}
		if !(rate >= 0 && rate <= 1) {
			return fmt.Errorf("faults: %s: a rate is between 0 and 1, got %v", kind, rate)
		}
		sum += rate
	}
	if sum > 1+1e-9 || math.IsNaN(sum) {
		return fmt.Errorf("faults: the rates add up to %v, more than 1", sum)
	}
	for i, s := range c.Schedule {
		if s.Kind != "" && !slices.Contains(Kinds(), s.Kind) {
			return fmt.Errorf("schedule[%d]: unknown kind %q; there are %v", i, s.Kind, Kinds())
		}
		if s.Count < 1 {
			return fmt.Errorf("schedule[%d]: count must be at least 1, got %d", i, s.Count)
		}
	}
	if c.ModelsFault != "" && !slices.Contains(Kinds(), c.ModelsFault) {
		return fmt.Errorf("models_fault: unknown kind %q", c.ModelsFault)
	}
	return nil
}

func (c *Config) durations() map[string]*time.Duration {
	return map[string]*time.Duration{
		"latency": &c.Latency, "latency_p99": &c.LatencyP99, "rtt": &c.RTT,
		"retry_after": &c.RetryAfter, "idle_timeout": &c.IdleTimeout,
		"fresh_timeout": &c.FreshTimeout, "max_age": &c.MaxAge,
		"stale": &c.Stale, "drip": &c.Drip,
		"forget": &c.Forget, "forget_reset": &c.ForgetReset,
	}
}

// clone returns a copy that shares nothing that Configure may change.
func (c *Config) clone() Config {
	d := *c
	d.Models = slices.Clone(c.Models)
	d.Faults = maps.Clone(c.Faults)
	d.Schedule = slices.Clone(c.Schedule)
	return d
}

func (c *Config) model(id string) (Model, bool) {
	for _, m := range c.Models {
		if m.ID == id {
			return m, true
		}
	}
	return Model{}, false
}

// encode returns c as JSON, with durations as Go writes them.
func (c Config) encode() ([]byte, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(plain, &fields); err != nil {
		return nil, err
	}
	for key, d := range c.durations() {
		fields[key] = d.String()
	}
	return json.MarshalIndent(fields, "", "  ")
}

// decode lays the keys in data over c. What it does not name stays.
func (c *Config) decode(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	for key, d := range c.durations() {
		raw, ok := fields[key]
		if !ok {
			continue
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf(`%s: write a duration such as "300ms"`, key)
		}
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		*d = v
		delete(fields, key)
	}
	// Maps and lists are replaced, not merged: what one POST says is what holds.
	for key, clear := range map[string]func(){
		"faults":   func() { c.Faults = nil },
		"models":   func() { c.Models = nil },
		"schedule": func() { c.Schedule = nil },
	} {
		if _, ok := fields[key]; ok {
			clear()
		}
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(rest))
	dec.DisallowUnknownFields()
	return dec.Decode(c)
}
