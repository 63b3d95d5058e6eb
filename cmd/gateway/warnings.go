package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages/provider"
	"github.com/dragoman-mt/dragoman/stages/queue"
	"github.com/dragoman-mt/dragoman/stages/ratelimit"
)

// chosen is the configuration of the parts that depend on each other. A part
// that the file leaves out is nil.
type chosen struct {
	file     *config.File
	server   *door.Config
	pool     *pool.Config
	provider *provider.Config
	queue    *queue.Config
	rate     *ratelimit.Config
}

func choose(file *config.File) chosen {
	c := chosen{file: file, server: serverSection.Of(file), pool: poolSection.Of(file)}
	for _, s := range file.Stages {
		if !s.Enabled {
			continue
		}
		switch v := s.Config.(type) {
		case *provider.Config:
			c.provider = v
		case *queue.Config:
			c.queue = v
		case *ratelimit.Config:
			c.rate = v
		}
	}
	return c
}

// use returns the name of the provider in use, the first of a list.
func (c chosen) use() string {
	if c.provider == nil || len(c.provider.Use) == 0 {
		return ""
	}
	return c.provider.Use[0]
}

// providers returns the names of those that the chain uses.
func (c chosen) providers() map[string]bool {
	used := map[string]bool{}
	if c.provider != nil {
		for _, name := range c.provider.Names() {
			used[name] = true
		}
	}
	return used
}

// pooled says whether any provider that the chain uses calls through the pool;
// plugins have connections of their own.
func (c chosen) pooled() bool {
	used := c.providers()
	return slices.ContainsFunc(c.file.Providers, func(p config.Item) bool {
		_, plugin := p.Config.(*host.ProviderConfig)
		return used[p.Name] && !plugin
	})
}

// timeout returns how long one attempt with the named provider may take. Of a
// plugin that is not known: it has as long as the request.
func (c chosen) timeout(name string) (longest time.Duration, known bool) {
	for _, p := range c.file.Providers {
		if p.Name != name {
			continue
		}
		if plugin, ok := p.Config.(*host.ProviderConfig); ok {
			name = plugin.ConfigFrom // whose timeout it has as well
		}
	}
	for _, p := range c.file.Providers {
		if bounded, ok := p.Config.(interface{ Longest() time.Duration }); ok && p.Name == name {
			return bounded.Longest(), true
		}
	}
	return c.server.Deadline, false
}

// worst is how long a request can take when every attempt runs into its
// timeout: the first, the retries, and each fallback once.
// Last is the part of the last one.
func (c chosen) worst() (total, last time.Duration, how string) {
	if c.use() == "" {
		return 0, 0, ""
	}
	attempts := 1 + c.provider.Retries
	last, _ = c.timeout(c.use())
	for _, p := range c.file.Providers {
		if _, plugin := p.Config.(*host.ProviderConfig); plugin && p.Name == c.use() && len(c.provider.Fallback) > 0 {
			last = min(last, c.server.Deadline/2) // the fallback has the other half
		}
	}
	total = time.Duration(attempts) * last
	how = fmt.Sprintf("%d x %v with %s", attempts, last, c.use())
	for _, name := range c.provider.Use[1:] {
		last, _ = c.timeout(name)
		total += last
		how += fmt.Sprintf(" + %v with %s", last, name)
	}
	for _, name := range c.provider.Fallback {
		last, _ = c.timeout(name)
		total += last
		how += fmt.Sprintf(" + %v with %s", last, name)
	}
	return total, last, how
}

// routeWarnings are about routes for clients that there are not.
func routeWarnings(c chosen, warn func(format string, args ...any)) {
	if c.provider == nil {
		return
	}
	for i, r := range c.provider.Routes {
		known := slices.ContainsFunc(c.server.Keys, func(k door.Key) bool { return k.Name == r.Client })
		if r.Client != "" && !known && !c.file.Unknown("server.keys") {
			warn("routes[%d] of the stage provider is for the client %q, and none of server.keys has that name: it takes nothing", i, r.Client)
		}
	}
}

// warnings are about values that are allowed one by one and work badly
// together.
func warnings(file *config.File) []string {
	c := choose(file)
	var out []string
	warn := func(format string, args ...any) {
		out = append(out, file.Path+": "+fmt.Sprintf(format, args...))
	}
	keyWarnings(c.server, file.Unknown, warn)
	routeWarnings(c, warn)
	if c.queue != nil && c.pooled() && c.pool.Mode == pool.Pooled && c.pool.Protocol == pool.HTTP1 && c.queue.MaxConcurrent > c.pool.MaxConnections {
		warn("queue.max_concurrent is %d and pool.max_connections is %d: the %d calls above it wait a second time, for a connection and without fairness; raise the one or lower the other",
			c.queue.MaxConcurrent, c.pool.MaxConnections, c.queue.MaxConcurrent-c.pool.MaxConnections)
	}
	if c.queue != nil && c.rate != nil && c.queue.MinInterval > 0 {
		// The interval smooths bursts and may well cost some of the limit; more
		// than half of it is a mistake.
		if most := int(time.Minute / c.queue.MinInterval); 2*most < c.rate.RequestsPerMinute {
			warn("queue.min_interval of %v allows %d starts a minute, so most of the %d of ratelimit.requests_per_minute can never be used; use at most %v to reach it",
				c.queue.MinInterval, most, c.rate.RequestsPerMinute, (time.Minute / time.Duration(c.rate.RequestsPerMinute)).Truncate(100*time.Microsecond))
		}
	}
	// A last attempt that is cut short is still worth making; one that cannot
	// begin is a mistake.
	total, last, how := c.worst()
	if _, known := c.timeout(c.use()); known && total-last >= c.server.Deadline {
		warn("when attempts run into their timeouts (%v = %s), the last of them cannot begin within server.deadline of %v; shorten the timeout or make fewer", total, how, c.server.Deadline)
	}
	plugin, calls := "", false
	for _, s := range file.Stages {
		switch {
		case !s.Enabled:
		case s.Kind.Role == core.RoleCaller:
			calls = true
		case !calls && (s.Kind.Name == "protect" || s.Kind.Name == "postprocess"):
			warn("stage %q stands above the stage that calls the provider: an answer that it finds bad reaches the client as an error, and is not asked for again; put it below", s.Name)
		case s.Kind.Role == core.RoleLookup && plugin != "":
			warn("stage %q is a plugin above %q: every request pays for the call to another process, hits too", plugin, s.Name)
		case s.Kind.Name == "plugin":
			plugin = s.Name
		}
	}
	return out
}
