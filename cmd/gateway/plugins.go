package gateway

import (
	"context"
	"fmt"
	"os"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/fields"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// inheritAll gives the plugins with config_from what they take from another provider.
func inheritAll(file *config.File) error {
	var wrong config.Complaints
	for _, items := range [][]config.Item{file.Providers, file.Stages} {
		for i := range items {
			item := &items[i]
			if c, ok := item.Config.(*host.ProviderConfig); ok && c.ConfigFrom != "" {
				wrong = append(wrong, config.AsComplaints(inherit(file, item, c))...)
			}
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// inherit gives c the keys of the provider that it names, and what the pool says
// about its connections: the same calls leave another process the same way.
func inherit(file *config.File, item *config.Item, c *host.ProviderConfig) error {
	for _, from := range file.Providers {
		if from.Name != c.ConfigFrom {
			continue
		}
		if from.Kind.Name == item.Kind.Name {
			return item.Origin.Complain("config_from", from.Name+" is a plugin itself; name the provider whose keys are wanted")
		}
		p := poolSection.Of(file)
		c.Inherited = fields.Plain(from.Config)
		c.Inherited["ca_file"], c.Inherited["proxy"] = p.CAFile, p.Proxy
		item.Digest += " " + from.Digest + " " + p.CAFile + " " + p.Proxy
		if p.Proxy == "" && len(c.Command) > 0 {
			lend(c)
		}
		break
	}
	return nil // that there is no such provider was said when the file was loaded
}

// lend gives a plugin the variables that the pool takes its proxy from.
func lend(c *host.ProviderConfig) {
	env := map[string]core.Secret{}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = core.Secret(value)
		}
	}
	for name, value := range c.Env {
		env[name] = value
	}
	if len(env) > 0 {
		c.Env = env
	}
}

// ask starts every plugin of the file once, to hear what it is and to hold its
// configuration against that, and returns how many there are. Those that the
// gateway would run are configured as well, unless offline: then the values that
// they need may be missing. A plugin that is not in use and does not start is a
// warning.
func (g *gateway) ask(ctx context.Context, offline bool, warn func(string)) (asked int, err error) {
	defer g.plugins.SetMode(host.Ignore)
	var wrong config.Complaints
	used := choose(g.file).providers()
	for _, item := range append(append([]config.Item{}, g.file.Providers...), g.file.Stages...) {
		if item.Kind.Name != "plugin" || !item.Enabled {
			continue
		}
		g.plugins.SetMode(host.Try)
		if offline || item.Kind.Role == core.RoleProvider && !used[item.Name] {
			g.plugins.SetMode(host.Describe)
		}
		part, err := item.Kind.Build(core.Env{Name: item.Name, Log: g.log.Named(item.Name), Deadline: g.server.Deadline, Origin: item.Origin}, item.Config)
		if err != nil {
			return asked, err // engine.Build has said it, with its place
		}
		starter, ok := part.(core.Starter)
		if !ok {
			continue // what it is, is not known
		}
		asked++
		err = starter.Start(ctx)
		if err == nil {
			continue
		}
		all := config.AsComplaints(err)
		if all == nil {
			return asked, fmt.Errorf("%s: %s: %w", g.file.Path, item.Path, err)
		}
		for _, c := range all {
			absent := c.Path == item.Path+".command" || c.Path == item.Path+".address"
			if absent && item.Kind.Role == core.RoleProvider && !used[item.Name] {
				warn(c.String())
				continue
			}
			wrong = append(wrong, c)
		}
	}
	if len(wrong) > 0 {
		return asked, wrong
	}
	return asked, nil
}
