package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/heap"
	"github.com/dragoman-mt/dragoman/core/history"
	"github.com/dragoman-mt/dragoman/core/reload"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/state"
	"github.com/dragoman-mt/dragoman/core/trace"
	"github.com/dragoman-mt/dragoman/core/usage"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

func (p program) serveCommand() *cobra.Command {
	f := p.flags()
	var back bool
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a configuration until SIGTERM or Ctrl-C, then finish what is in flight",
		Long: `Serve a configuration until SIGTERM or Ctrl-C. What is in flight then is finished,
for at most server.drain_timeout; a second signal ends the program at once.

A provider that cannot be reached does not keep the gateway from starting:
/readyz says so until it can be.

When the file is saved, on SIGHUP, and by "dragoman reload", the gateway takes it
over without losing a request. A mistake in it changes nothing, and is logged with
its place. The last five contents that served are kept, for "dragoman reload
--previous" and for --last-good.

A service manager such as systemd may hand listening sockets over, named public and
admin, and is told how the gateway is.

Exit status: 0 after a signal, 1 when it could not serve, or when something still
ran at the end, such as a part in an endless loop: the process ends all the same,
drain_timeout and a second after the signal at the latest, and the log says what.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("listen") {
				f.set = append(f.set, "server.listen="+listen)
			}
			return serve(cmd, f, back)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "listen on `ADDRESS`, as --set server.listen=ADDRESS does")
	cmd.Flags().BoolVar(&back, "last-good", false, "when the file cannot be served, serve what served last")
	return cmd
}

func serve(cmd *cobra.Command, f *flags, back bool) (err error) {
	var content []byte
	defer func() { err = inItsFormat(cmd, f, content, err) }()
	quietGRPC()
	past, err := state.Of(f.file, os.LookupEnv)
	if err != nil {
		return err
	}
	// Else the process would end when the reader of its log has gone. Now the
	// write fails, and the lines count as dropped.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)
	// A SIGHUP that comes too early is kept for later.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	defer heap.Keep()()

	by, err := managerOf(os.Environ(), os.Getpid())
	if err != nil {
		return err
	}
	defer by.close()
	if at := by.handed["listen"]; at != nil && cmd.Flags().Changed("listen") {
		return usageError{fmt.Errorf("--listen says where to listen, and so does the socket that was handed over (%s); leave --listen out", by.addresses["listen"])}
	}
	f.set = append(f.set, by.settings()...)

	end := newEndgame(cmd.ErrOrStderr(), door.Defaults().DrainTimeout)
	defer end.watch(cmd.Context())()
	end.at("reading " + f.file)
	content, err = files.Head(f.file, config.MaxFile+1)
	if err != nil {
		content = nil // the loader says it better
	}
	s := &serving{cmd: cmd, flags: f, past: past, hup: hup, by: by, end: end, onDisk: fmt.Sprintf("%x", sha256.Sum256(content))}
	err = s.serve(content, false)
	why, ok := errors.AsType[unfit](err)
	switch {
	case !ok:
		return err
	case !back:
		return why.error
	}
	kept, none := past.Latest()
	for ; none == nil; kept, none = past.Before(kept.Hash) {
		if kept.Hash == s.onDisk {
			continue
		}
		instead := fmt.Sprintf("%v\n%s cannot be served, so what served at %s is; mend the file and save it", why, f.file, kept.At.Local().Format(time.DateTime))
		if logsJSON(f, content) || logsJSON(f, kept.Content) {
			say(cmd.ErrOrStderr(), zapcore.WarnLevel, instead)
		} else {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", instead)
		}
		if err = s.serve(kept.Content, true); !errors.As(err, &why) {
			return err
		}
	}
	return fmt.Errorf("%w\n--last-good finds nothing else to serve: %v", why.error, none)
}

// An unfit configuration is one that cannot be served. Another one may be.
type unfit struct{ error }

// A serving serves one configuration file, or what it held before.
type serving struct {
	cmd    *cobra.Command
	flags  *flags
	past   state.Folder
	hup    <-chan os.Signal
	by     *manager
	end    *endgame
	onDisk string // hash of what the file held at the start
}

// serve serves content until the command's context ends. The error is an unfit
// when it could not begin for what content says. Back says that it is not what the
// file holds.
func (s *serving) serve(content []byte, back bool) (err error) {
	cmd, f := s.cmd, s.flags
	s.end.at("checking " + f.file)
	file, err := f.content(content, host.New())
	if err != nil {
		return unfit{err}
	}
	drain := serverSection.Of(file.File).DrainTimeout
	s.end.set(func(e *endgame) { e.drain = func() time.Duration { return drain } })
	s.end.at("building what " + f.file + " says")
	g, err := buildFor(file, machine(s.past))
	if err != nil {
		return unfit{err}
	}
	g.at = s.end.at
	s.end.set(func(e *endgame) { e.gateway = g })
	defer func() {
		if ended := g.close(0); !ended && err == nil {
			err = errSaid
		}
	}()
	if err := g.server.Check(); err != nil {
		return unfit{file.Place(err)}
	}

	registry := admin.NewRegistry()
	metrics := door.NewMetrics(registry)
	service := door.New(*g.server, g.engine)
	service.SlowFrom(g.lines.Slow)
	service.AccessTo(g.lines.Access)
	tracer, err := trace.New(*traceSection.Of(file.File), os.Getenv, g.log.Named("trace"))
	if err != nil {
		return unfit{file.Place(err)}
	}
	defer tracer.Close()
	service.TraceBy(tracer)
	var group core.Shared
	if g.shared != nil {
		group = g.shared
	}
	book := usage.Open(filepath.Join(s.past.Path(), "usage"), group, g.log.Named("usage"))
	defer book.Close()
	book.SetPrices(pricesOf(file.File))
	service.CountIn(book)
	g.glossaries.take = service.UseGlossaries
	service.UseGlossaries(g.glossaries.all)
	doors := newDoors(*doorsSection.Of(file.File), *liveSection.Of(file.File), s.past.Path(), service, metrics, g.log)
	doors.share(g.shared)
	defer doors.close()
	var reloader *reload.Reloader // since the first generation serves; nobody asks before
	hour := history.New(door.Bounds(), func() history.Reading { return counted(metrics, g.engine) })
	server := door.NewServer(door.Options{
		Config:  *g.server,
		Service: service,
		Handed:  s.by.handed,
		Doors:   doors.all(),
		Admin: admin.New(admin.Options{
			Gatherer: registry,
			Ready:    g.engine.Ready,
			Status:   func() admin.Status { return g.status(reloader.Serving()) },
			Reload: func(ctx context.Context, ask admin.ReloadAsked) admin.Reload {
				ctx, done := whileServing(ctx, cmd.Context())
				defer done()
				to := reload.Target{Previous: ask.Previous, To: ask.To}
				switch {
				case ask.DryRun:
					return asTold(reloader.Rehearse(ctx, to), time.Now())
				case ask.Previous:
					return asTold(reloader.Serve(ctx, "admin, previous", to), time.Now())
				}
				return asTold(reloader.Serve(ctx, "admin", to), time.Now())
			},
			Kept: func() ([]admin.Kept, error) { return kept(reloader) },
			Restart: func(ctx context.Context, name string) (admin.Restart, error) {
				ctx, done := whileServing(ctx, cmd.Context())
				defer done()
				return g.restart(ctx, name)
			},
			Usage: func(by, month string) (usage.Report, error) {
				return book.Report(by, month, service.Limits())
			},
			Notice:        book.Notice,
			Recent:        service.Recent,
			Sessions:      doors.sessions,
			Group:         func() *admin.Group { return g.group(book) },
			Record:        doors.record,
			Tap:           g.engine.Tap,
			Configuration: func() admin.Configuration { return explained(reloader.Serving().File) },
			History:       hour,
			Service:       service,
			Stopping:      service.Stopping(),
			Log:           g.log.Named("admin"),
		}),
		Refuse:  admin.Refuse,
		Metrics: metrics,
		Log:     g.log,
	})
	g.engine.Attach("server", server)
	g.engine.Attach("doors", doors)
	g.engine.Attach("live", doors.live)
	g.engine.Attach("trace", tracer)
	g.engine.Attach("glossaries", g.glossaries)
	for _, w := range s.by.warnings {
		g.log.Warn(w)
	}
	if err := server.Listen(); err != nil {
		return file.Place(err)
	}
	if err := temporary(); err != nil {
		g.log.Warn(err.Error())
	}
	if g.shared != nil {
		s.end.at("joining the group")
		g.shared.Tell(g.tell)
		g.shared.Start(shared.Member{PID: os.Getpid(), Program: builtFrom().Version, Listen: server.Addr(), Started: time.Now()})
		book.Join(service.Limits())
	}
	s.end.at("starting the parts")
	if err := g.start(cmd.Context()); err != nil {
		server.Close()
		return unfit{err}
	}
	for _, w := range warnings(file.File) {
		g.log.Warn(w)
	}
	g.first.Watch()
	defer (&memory{folder: s.past, engine: g.engine, log: g.log}).begin()()
	reloader = g.reloader(f, s.past, content, back, func(file *config.File) { book.SetPrices(pricesOf(file)) }, s.by)
	registry.MustRegister(admin.Collector(func() []core.Measurer {
		all := []core.Measurer{g.engine, poolMeasures{g.pool}, g.lines, tracer, reloader, doors.live, usageMeasures{book, service}}
		if g.shared != nil {
			all = append(all, g.shared)
		}
		return all
	}))
	defer keep(hour)()
	unfollow := g.follow(cmd.Context(), reloader, s.hup, f.file, s.onDisk)
	defer func() {
		s.end.at("ending reloads")
		unfollow()
	}()
	address := state.Address{PID: os.Getpid(), Started: time.Now()}
	if at := server.AdminAddr(); at != "" {
		address.Admin = door.URL(at)
	}
	p := &presence{past: s.past, address: address, serve: server.Local, persist: reloader.Persist, log: g.log}
	defer p.begin()()
	s.end.set(func(e *endgame) {
		e.drain = func() time.Duration { return service.Rules().DrainTimeout }
	})
	s.end.at("finishing calls")
	doors.deepl.Resume()
	defer s.by.begin(cmd.Context(), g.engine, server.Local, func() time.Duration { return service.Rules().DrainTimeout }, g.log)()
	greet(cmd, file.Path, g.server, server.Addr(), server.AdminAddr())
	// The start leaves garbage of several megabytes, which a gateway at rest would
	// hold for hours: the collector waits for more.
	go debug.FreeOSMemory()
	return server.Serve(cmd.Context())
}

// machine names where a gateway with this state folder runs, for the others of its group: it
// is the same after a restart.
func machine(past state.Folder) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	sum := sha256.Sum256([]byte(past.Path()))
	return fmt.Sprintf("%s/%x", host, sum[:3])
}

// whileServing returns ctx, which ends with serving too. What an operator asks for is no
// text that must not be lost: a probe that hangs would hold the end up for its whole time.
func whileServing(ctx, serving context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	forget := context.AfterFunc(serving, func() { cancel(errors.New("the gateway is stopping")) })
	return ctx, func() { forget(); cancel(nil) }
}

// greet says where the gateway is and gives one call to paste.
func greet(cmd *cobra.Command, file string, c *door.Config, addr, adminAddr string) {
	out := cmd.OutOrStdout()
	url := door.URL(addr)
	fmt.Fprintf(out, "Dragoman serves %s at %s\n", file, url)
	switch {
	case adminAddr == "":
		fmt.Fprintln(out, "no metrics over HTTP: give one of server.keys the role operate, or set server.admin to an address such as 127.0.0.1:9090")
	case adminAddr != addr:
		fmt.Fprintf(out, "metrics and status at %s\n", door.URL(adminAddr))
	}
	auth := ""
	if slices.ContainsFunc(c.Keys, func(k door.Key) bool { return k.For(door.Translate) }) {
		auth = ` -H "Authorization: Bearer $KEY"`
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && url == "http://127.0.0.1:"+port {
		url = "localhost:" + port
	}
	fmt.Fprintf(out, "try:  curl -s %s/v1/translate%s -d '{\"text\":\"Good morning. The new car is very fast.\",\"source\":\"en\",\"target\":\"es\"}'\n", url, auth)
}
