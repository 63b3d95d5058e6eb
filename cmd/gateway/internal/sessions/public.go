package sessions

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// A Subject is a gateway that is measured: one that was started for it, or one that runs
// already.
type Subject struct {
	URL, Key string
	lab      *lab
	watch    *watch
	before   look
	began    time.Time
	peak     func() int64
}

// Start returns the gateway that o says, of a cell of its own unless o.URL names one.
// The caller closes it, also after an error.
func Start(ctx context.Context, o Options, c Cell) (*Subject, error) {
	s := &Subject{URL: strings.TrimSuffix(o.URL, "/"), Key: o.Key}
	if o.URL == "" {
		var err error
		if s.lab, err = newLab(ctx, o, c); err != nil {
			return s, err
		}
		s.URL = s.lab.url
	}
	admin := strings.TrimSuffix(o.Admin, "/")
	if admin == "" {
		admin = s.URL
	}
	s.watch = &watch{lab: s.lab, admin: admin, key: o.Key, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}}
	return s, s.watch.ready(ctx)
}

// Begin notes that what is measured begins.
func (s *Subject) Begin(ctx context.Context) {
	s.before, s.began, s.peak = s.watch.look(ctx), time.Now(), s.watch.sample(ctx)
}

// End tells what happened since Begin. What is not known is below 0.
func (s *Subject) End(ctx context.Context) Facts {
	took, peak := time.Since(s.began), max(s.peak(), 0)
	after := s.watch.look(ctx)
	f := between(s.before, after, took)
	if resident := max(peak, s.before.resident, after.resident); resident > 0 {
		f.MB = figure(resident) / 1e6
	}
	f.RateLimited = after.limited - s.before.limited
	return f
}

// Close ends a gateway that was started here.
func (s *Subject) Close() {
	if s.watch != nil {
		s.watch.client.CloseIdleConnections()
	}
	s.lab.close()
}
