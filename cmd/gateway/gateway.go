package gateway

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// A gateway is what every command that translates has: the pool, the engine and
// one generation, built from a file and not started.
type gateway struct {
	file       *config.File
	server     *door.Config
	log        *zap.Logger
	pool       *pool.Pool
	plugins    *host.Host
	engine     *engine.Engine
	glossaries *glossaries
	shared     *shared.Store // nil when nothing is
	first      *engine.Generation
	lines      *logOutput
	at         func(step string) // told what close is at
}

// build makes a gateway of file, which shares nothing with others: the commands that
// translate a little and end.
func build(file loaded) (*gateway, error) { return buildFor(file, "") }

// buildFor makes a gateway of file. On a machine that has a name it shares with the others
// of its group what the file says.
func buildFor(file loaded, machine string) (*gateway, error) {
	log, lines := newLog(*logSection.Of(file.File))
	g := &gateway{file: file.File, server: serverSection.Of(file.File), log: log, plugins: file.plugins, lines: lines, at: func(string) {}}
	err := doorsSection.Of(file.File).Check()
	if err == nil {
		err = traceSection.Of(file.File).Check()
	}
	if err == nil {
		err = sharedSection.Of(file.File).Check()
	}
	if err != nil {
		lines.Close()
		return nil, file.Place(err)
	}
	g.glossaries, err = readGlossaries(*glossariesSection.Of(file.File))
	if err != nil {
		lines.Close()
		return nil, file.Place(err)
	}
	if g.pool, err = pool.New(*poolSection.Of(file.File), log.Named("pool")); err != nil {
		lines.Close()
		return nil, file.Place(err)
	}
	g.engine = engine.New(g.pool, log)
	g.engine.Attach("log", lines)
	g.engine.Attach("pool", g.pool)
	if machine != "" {
		if g.shared, err = shared.New(*sharedSection.Of(file.File), machine, log.Named("shared")); err != nil {
			g.pool.Close()
			lines.Close()
			return nil, file.Place(err)
		}
		if g.shared != nil {
			g.engine.Share(g.shared)
		}
	}
	if g.first, err = g.engine.Build(file.File, g.server.Deadline); err != nil {
		g.pool.Close()
		lines.Close()
		return nil, err
	}
	return g, nil
}

// start starts the first generation and serves it.
func (g *gateway) start(ctx context.Context) error {
	if err := g.first.Start(ctx); err != nil {
		g.pool.Close()
		return err // it names the file
	}
	g.engine.Serve(g.first, 0)
	return nil
}

// close waits for what is in flight, at most for wait, and frees everything. It
// says whether all has ended; the log names what has not.
func (g *gateway) close(wait time.Duration) (ended bool) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	g.at("closing the parts")
	g.engine.Close(ctx)
	g.first.Close() // in case it was never served
	if g.shared != nil {
		g.at("leaving the group")
		g.shared.Close()
	}
	g.at("closing the plugins")
	if err := g.plugins.Close(); err != nil {
		g.log.Warn("closing the host of plugins", zap.Error(err))
	}
	g.at("closing the connections")
	if err := g.pool.Close(); err != nil {
		g.log.Warn("closing the pool", zap.Error(err))
	}
	running := g.engine.Unfinished()
	if running != nil {
		g.log.Error("something still runs; the process ends", zap.Strings("running", running))
	}
	g.at("writing the log")
	g.lines.Close()
	return running == nil
}
