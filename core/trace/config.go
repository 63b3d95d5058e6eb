package trace

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Config holds the keys of `trace:`. The zero value traces nothing, unless the environment
// says otherwise.
type Config struct {
	Endpoint string                 `json:"endpoint" credentials:"true" jsonschema_description:"Where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318: spans go to /v1/traces there. Empty: as OTEL_EXPORTER_OTLP_ENDPOINT says, and nothing is traced without that."`
	Sample   float64                `json:"sample" jsonschema:"minimum=0,maximum=1" jsonschema_description:"The share of requests that are traced, of those whose caller does not say; 1: all. 0: as OTEL_TRACES_SAMPLER says, and all without that."`
	Detail   bool                   `json:"detail" jsonschema_description:"Each stage has a span as well."`
	Headers  map[string]core.Secret `json:"headers" jsonschema_description:"Headers for the collector, such as Authorization. Values are never shown."`
}

// Defaults is a Config in which nothing is said.
func Defaults() Config { return Config{} }

// Check returns what no bound of a single key can find. Its errors begin with the key.
func (c Config) Check() error {
	_, err := c.settings(func(string) string { return "" })
	return err
}

// settings are what a Config and the environment say together.
type settings struct {
	url      string // empty: nothing is traced
	header   http.Header
	ca       string // a PEM file of authorities beside the system's
	gzip     bool
	timeout  time.Duration // of a batch
	delay    time.Duration // after which what waits is sent
	most     int           // spans that wait
	batch    int           // spans of one call
	sampler  sampler
	detail   bool
	resource []byte // encoded
}

// A sampler says which requests are traced.
type sampler struct {
	parent bool    // as the caller says, if it does
	share  float64 // of all others
}

// settings reads c, and what it leaves out from the environment, as
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
// .../protocol/exporter/ say. The error is about c alone.
func (c Config) settings(env func(string) string) (s settings, err error) {
	s = settings{
		header: http.Header{}, timeout: milliseconds(env, "OTEL_EXPORTER_OTLP", "TIMEOUT", 10*time.Second), delay: milliseconds(env, "", "OTEL_BSP_SCHEDULE_DELAY", 5*time.Second),
		most: number(env, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, mostQueue), batch: number(env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 4096),
		detail: c.Detail, gzip: of(env, "COMPRESSION") == "gzip", ca: of(env, "CERTIFICATE"), resource: resource(env),
	}
	s.batch = min(s.batch, s.most)
	s.sampler, s.url = c.sampler(env), c.Endpoint
	if s.url == "" {
		s.url = fromEnvironment(env)
		for name, value := range pairs(of(env, "HEADERS")) {
			s.header.Set(name, value)
		}
	} else if u, err := url.Parse(s.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return s, errors.New("trace.endpoint: must be the http or https URL of a collector, such as http://127.0.0.1:4318, without a query")
	} else if !strings.HasSuffix(u.Path, tracesPath) {
		s.url = strings.TrimRight(s.url, "/") + tracesPath
	}
	for name, value := range c.Headers {
		if !isToken(name) || strings.ContainsFunc(value.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return s, fmt.Errorf("trace.headers.%s: is no header: its name or its value holds a character that none may hold", name)
		}
		s.header.Set(name, value.Reveal())
	}
	return s, nil
}

const tracesPath = "/v1/traces"

// mostQueue is the most that OTEL_BSP_MAX_QUEUE_SIZE may say.
const mostQueue = 16384

// of returns the variable of the exporter for traces called name, else that for everything.
func of(env func(string) string, name string) string {
	if v := env("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return env("OTEL_EXPORTER_OTLP_" + name)
}

// fromEnvironment is where the environment wants spans sent to; empty for nowhere.
func fromEnvironment(env func(string) string) string {
	if strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") {
		return ""
	}
	if to := env("OTEL_TRACES_EXPORTER"); to != "" && !slices.Contains(strings.Split(to, ","), "otlp") {
		return ""
	}
	if protocol := of(env, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return ""
	}
	to := env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if base := env("OTEL_EXPORTER_OTLP_ENDPOINT"); to == "" && base != "" {
		to = strings.TrimRight(base, "/") + tracesPath
	}
	if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return ""
	}
	return to
}

func (c Config) sampler(env func(string) string) sampler {
	if c.Sample > 0 {
		return sampler{true, c.Sample}
	}
	name, share := env("OTEL_TRACES_SAMPLER"), 1.0
	if v, err := strconv.ParseFloat(env("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil && v >= 0 && v <= 1 {
		share = v
	}
	switch name {
	case "always_on":
		return sampler{false, 1}
	case "always_off":
		return sampler{false, 0}
	case "traceidratio":
		return sampler{false, share}
	case "parentbased_always_off":
		return sampler{true, 0}
	case "parentbased_traceidratio":
		return sampler{true, share}
	}
	return sampler{true, 1}
}

// pairs reads a list as OTEL_RESOURCE_ATTRIBUTES has it: a=b,c=d, percent-encoded.
func pairs(list string) map[string]string {
	all := map[string]string{}
	for item := range strings.SplitSeq(list, ",") {
		name, value, ok := strings.Cut(item, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); ok && name != "" && err == nil && isToken(name) && !strings.ContainsFunc(decoded, func(r rune) bool { return r < ' ' }) {
			all[name] = decoded
		}
	}
	return all
}

// isToken says whether name may be the name of a header (RFC 9110 section 5.6.2).
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

func milliseconds(env func(string) string, prefix, name string, usual time.Duration) time.Duration {
	v := env(name)
	if prefix != "" {
		v = of(env, name)
	}
	if ms, err := strconv.Atoi(v); err == nil && ms > 0 && ms <= int(time.Minute/time.Millisecond) {
		return time.Duration(ms) * time.Millisecond
	}
	return usual
}

func number(env func(string) string, name string, usual, most int) int {
	if n, err := strconv.Atoi(env(name)); err == nil && n > 0 {
		return min(n, most)
	}
	return usual
}
