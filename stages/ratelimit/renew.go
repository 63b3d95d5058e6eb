package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

var (
	_ core.Starter = (*Stage)(nil)
	_ core.Closer  = (*Stage)(nil)

	_ core.Rememberer = (*Stage)(nil)
)

// Start begins to renew the leases of accounts, where the file says that gateways share them.
func (s *Stage) Start(context.Context) error {
	if s.shared == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	s.mu.Lock()
	s.stop = stop
	s.mu.Unlock()
	s.running.Go(func() {
		defer s.shared.State().Hear("pause", s.heardPause)()
		defer s.shared.State().Hear("open", s.heardOpen)()
		s.renewals(ctx)
	})
	return nil
}

// Close says good-bye to the group, which then need not keep a share for this gateway.
func (s *Stage) Close() error {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	s.running.Wait()
	if !s.shared.State().Up() {
		return nil
	}
	var leaving sync.WaitGroup
	s.mu.Lock()
	for _, a := range s.accounts {
		if a.lease != nil {
			args := a.lease.request(a, s.shared, s.longest, time.Now(), true)
			leaving.Go(func() { _, _ = s.shared.State().Run(context.Background(), leaseScript, a.lease.key, args...) })
		}
	}
	s.mu.Unlock()
	leaving.Wait()
	return nil
}

// memory is what outlives the process.
type memory struct {
	// Gateways is how many shared an account: one that begins while the store is away
	// keeps to that part of the limit.
	Gateways int `json:"gateways"`
}

// Remember returns how many gateways there were; nil when nothing is shared.
func (s *Stage) Remember() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil || s.known == 0 {
		return nil
	}
	said, err := json.Marshal(memory{s.known})
	if err != nil {
		return nil // it never fails
	}
	return said
}

// Recall takes back what a former process remembered.
func (s *Stage) Recall(said []byte) error {
	var m memory
	if err := json.Unmarshal(said, &m); err != nil || m.Gateways < 1 || m.Gateways > mostMembers {
		return fmt.Errorf("ratelimit: what was remembered of the group is no number of gateways from 1 to %d", mostMembers)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = m.Gateways
	return nil
}

// leave forgets an account, and has the group forget what this gateway has of it.
func (s *Stage) leave(name string, a *account) {
	delete(s.accounts, name)
	if a.lease != nil && len(s.leaving) < 4*accountsKept {
		left := *a
		s.leaving = append(s.leaving, &left)
	}
	a.lease = nil
}

// renewSoon has the leases looked at. The caller holds s.mu.
func (s *Stage) renewSoon() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// renewals renews each lease when it is due.
func (s *Stage) renewals(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.kick:
		}
		due, next := s.due(time.Now())
		for _, d := range due {
			asking.Go(func() {
				list, err := s.shared.State().Run(ctx, leaseScript, d.account.lease.key, d.args...)
				s.answered(d, list, err, time.Now())
			})
		}
		timer.Reset(time.Until(next))
	}
}

// A renewal is to be sent. One of an account that was left is not answered.
type renewal struct {
	account *account
	args    []string
	left    bool
}

// due returns the renewals that are to be sent now, and when to ask again.
func (s *Stage) due(now time.Time) (due []renewal, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = now.Add(time.Hour)
	for _, a := range s.leaving {
		due = append(due, renewal{a, a.lease.request(a, s.shared, s.longest, now, true), true})
	}
	s.leaving = nil
	for _, a := range s.accounts {
		if a.lease == nil {
			continue
		}
		if at := a.lease.due(); !at.After(now) {
			due = append(due, renewal{a, a.lease.request(a, s.shared, s.longest, now, false), false})
		} else if at.Before(next) {
			next = at
		}
	}
	return due, next
}

// answered takes over what the store said to r.
func (s *Stage) answered(r renewal, list []string, err error, now time.Time) {
	if r.left {
		return
	}
	var g agreement
	if err == nil {
		g, err = parseAgreement(list)
	}
	s.mu.Lock()
	if err != nil {
		r.account.lease.unanswered(r.account, now)
	} else {
		s.paused += r.account.lease.answered(r.account, g, now)
		if g.state != "stale" {
			s.known = r.account.lease.members
		}
	}
	warn := err == nil && g.newer && !s.warned
	s.warned = s.warned || warn
	waits := slices.Clone(s.waits)
	s.renewSoon() // the next is due some time after this one
	s.mu.Unlock()
	if warn && s.log != nil {
		s.log.Warn("a gateway of a later version is in the group, whose record of an account this one does not understand: it keeps to its share of the limit until that one is gone or this one is as new")
	}
	for _, l := range waits {
		l.Wake()
	}
}

// about finds the account that a message of the group is about, if another sent it.
func (s *Stage) about(message string) (a *account, rest string) {
	key, rest, _ := strings.Cut(message, " ")
	from, rest, _ := strings.Cut(rest, " ")
	if from == s.shared.Self() {
		return nil, ""
	}
	for _, a := range s.accounts {
		if a.lease != nil && strings.HasSuffix(key, ":"+a.lease.key) {
			return a, rest
		}
	}
	return nil, ""
}

// heardPause is for the 429 that another gateway got.
func (s *Stage) heardPause(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, rest := s.about(message)
	ms, err := strconv.ParseInt(rest, 10, 64)
	if a == nil || err != nil || ms <= 0 {
		return
	}
	now := time.Now()
	s.paused += a.pause(time.Duration(min(ms, longestPause.Milliseconds()))*time.Millisecond, now)
	a.lease.shut()
	a.lease.until = now.Add(granted)
}

// heardOpen is for the good answer of whoever probed at the end of a pause.
func (s *Stage) heardOpen(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, _ := s.about(message); a != nil {
		a.lease.hurry = true
		s.renewSoon()
	}
}

// measureLease reports what the group lets this gateway have of the provider in use.
func (s *Stage) measureLease(emit func(core.Measure)) {
	s.mu.Lock()
	l, starved := s.current.lease, s.starved
	var left int64
	members, shares := 0, 0.
	if l != nil {
		left, members = max(l.left[0], 0), l.members
		if l.shares {
			shares = 1
		}
	}
	s.mu.Unlock()
	emit(core.Measure{Name: "ratelimit_lease_left", Help: "Requests that the group lets this gateway start before it asks again, of the account in use.", Value: float64(left)})
	emit(core.Measure{Name: "ratelimit_lease_members", Help: "Gateways that share the account in use.", Value: float64(members)})
	emit(core.Measure{Name: "ratelimit_lease_share", Help: "1 while this gateway keeps to its share of the limit, since it cannot know what the others spend.", Value: shares})
	emit(core.Measure{Name: "ratelimit_lease_waits_total", Help: "Times that the line was refused for nothing but a lease.", Counter: true, Value: float64(starved)})
}
