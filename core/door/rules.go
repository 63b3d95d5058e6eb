package door

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/glossary"
)

// Rules are what the section `server` says to one call, from its arrival to its
// end: a door takes them once a call, and whatever a reload changes meanwhile
// changes nothing for that one. They are never changed.
type Rules struct {
	Config
	service *Service
	keys    []key
	byName  map[string]*key
	hosts   []string // of Origins
	cross   *http.CrossOriginProtection

	sources, targets []core.Language // of Languages; empty for any
	defaultTarget    core.Language

	glossary *glossary.Glossary // of one call; see Under
}

// newRules is for a c that passed Check, which refuses what is passed over here.
func (s *Service) newRules(c Config) *Rules {
	r := &Rules{Config: c, service: s, keys: newKeys(c.Keys), cross: http.NewCrossOriginProtection()}
	r.byName = make(map[string]*key, len(r.keys))
	for i := range r.keys {
		r.byName[r.keys[i].client] = &r.keys[i]
	}
	r.sources, r.targets = parsed(c.Languages.Source), parsed(c.Languages.Target)
	if d := parsed([]string{c.Languages.DefaultTarget}); len(d) > 0 {
		r.defaultTarget = d[0]
	}
	for _, o := range c.Origins {
		if u, err := url.Parse(o); err == nil && r.cross.AddTrustedOrigin(o) == nil && !shells[u.Scheme] {
			r.hosts = append(r.hosts, u.Hostname())
		}
	}
	return r
}

// Within returns r for a door whose calls may take as long as deadline.
func (r *Rules) Within(deadline time.Duration) *Rules {
	own := *r
	own.Deadline = deadline
	return &own
}

// Plan takes another section `server` in place: for every call that arrives
// after apply. The error is each Fault of it, joined, among them an address
// other than the one that is listened on.
//
// The listeners stay, so what Check says about them, that one beyond loopback
// needs keys, holds for those that are open: no change leaves one without.
func (s *Server) Plan(config any) (apply func(), err error) {
	c, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("server: planned with a %T, want a %T", config, c)
	}
	faults := c.faults()
	fixed := func(key, was, is string) {
		if was != is {
			faults = append(faults, &Fault{key, fmt.Sprintf("cannot change from %q to %q while the gateway runs; restart the gateway, or set it back", was, is)})
		}
	}
	fixed("listen", s.o.Config.Listen, c.Listen)
	fixed("admin", s.o.Config.Admin, c.Admin)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	rules := s.o.Service.newRules(*c)
	return func() { s.o.Service.rules.Store(rules) }, nil
}
