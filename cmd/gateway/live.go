package gateway

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/reload"
	"github.com/dragoman-mt/dragoman/core/state"
)

// reloader returns what changes the configuration of g, which serves content.
func (g *gateway) reloader(f *flags, past state.Folder, content []byte, back bool, served func(*config.File), by *manager) *reload.Reloader {
	return reload.New(reload.Options{
		Engine: g.engine,
		File:   f.file,
		Load: func(content []byte) (*config.File, error) {
			file, err := f.content(content, g.plugins)
			return file.File, err
		},
		Times: func(file *config.File) (deadline, drain time.Duration) {
			c := serverSection.Of(file)
			return c.Deadline, c.DrainTimeout
		},
		Served:    served,
		Loading:   by.loading,
		Loaded:    by.loaded,
		Warnings:  warnings,
		Processes: g.processes,
		Past:      past,
		Log:       g.log.Named("reload"),
	}, g.file, content, back)
}

// processes are the numbers of the plugins' processes.
func (g *gateway) processes() []int {
	var all []int
	for _, p := range g.plugins.Status() {
		if p.PID != 0 {
			all = append(all, p.PID)
		}
	}
	return all
}

// follow reloads when the file changes from what has that hash, and on a signal,
// until ctx ends or stop is called, which returns when no reload runs any more.
func (g *gateway) follow(ctx context.Context, r *reload.Reloader, hup <-chan os.Signal, file, hash string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				r.Reload(ctx, "SIGHUP")
			}
		}
	})
	running.Go(func() {
		reload.Follow(ctx, file, hash, g.log.Named("reload"),
			func(content []byte) { r.Content(ctx, "file", content) }, func(content []byte) { r.Named(ctx, "file", content) })
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// asTold is v as the admin door tells it.
func asTold(v reload.Report, at time.Time) admin.Reload {
	a := admin.Reload{
		Outcome: string(v.Outcome), Text: v.String(), Trigger: v.Trigger,
		Generation: v.Generation, Was: v.Was, At: at.UTC().Truncate(time.Millisecond),
		TookMS: float64(v.Took.Microseconds()) / 1000, Carried: v.Carried, Warnings: v.Warnings, FileDiffers: v.Differs,
	}
	for _, c := range v.Changes {
		a.Changes = append(a.Changes, c.String())
	}
	for _, place := range v.Files {
		a.Changes = append(a.Changes, "files of "+place+" changed")
	}
	if v.Err != nil {
		a.Errors = []string{v.Err.Error()}
		if all, ok := errors.AsType[config.Complaints](v.Err); ok {
			a.Errors = nil
			for _, c := range all {
				a.Errors = append(a.Errors, c.String())
			}
		}
	}
	return a
}

// kept is what can be gone back to, as the admin door tells it.
func kept(r *reload.Reloader) ([]admin.Kept, error) {
	list, err := r.Kept()
	var all []admin.Kept
	for i, l := range list {
		k := admin.Kept{Number: i + 1, At: l.At.UTC(), Hash: l.Hash, Serves: l.Serves}
		for _, c := range l.Changes {
			k.Changes = append(k.Changes, c.String())
		}
		if l.Err != nil {
			k.Error = l.Err.Error()
		}
		all = append(all, k)
	}
	return all, err
}

// status is what serves, as the admin door tells it.
func (g *gateway) status(now reload.Serving) admin.Status {
	s := admin.Status{
		Version: builtFrom().Version, Config: now.File.Path, Hash: now.Hash, Generation: g.engine.Number(),
		Loaded: now.Since.UTC().Truncate(time.Second), FileDiffers: now.Differs,
	}
	if now.Last != nil {
		last := asTold(*now.Last, now.At)
		s.LastReload = &last
	}
	for _, item := range now.File.Stages {
		if item.Enabled {
			s.Stages = append(s.Stages, item.Name)
		}
	}
	for _, item := range now.File.Providers {
		s.Providers = append(s.Providers, item.Name)
		for _, account := range item.Accounts {
			s.Accounts = append(s.Accounts, admin.Account{Name: account.Name, Provider: item.Name})
		}
	}
	if c := choose(now.File).provider; c != nil && len(c.Routes) > 0 {
		s.Routes = append(routesOf(now.File, c), admin.Route{Name: "use", To: "any other: calls " + called(now.File, c.Use)})
	}
	for _, p := range g.plugins.Status() {
		s.Plugins = append(s.Plugins, admin.Plugin{
			Program: p.Program, Version: p.Version, Serves: p.Serves, State: string(p.State),
			PID: p.PID, Restarts: p.Restarts, MemoryBytes: int64(p.Memory),
		})
	}
	return s
}
