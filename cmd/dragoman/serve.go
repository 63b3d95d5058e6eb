package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/door/native"
	"github.com/dragoman-mt/dragoman/core/engine"
)

func serveCommand() *cobra.Command {
	var f flags
	var back bool
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

Exit status: 0 after a signal, 1 when it could not serve.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd, &f, back) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&back, "last-good", false, "when the file cannot be served, serve what served last")
	return cmd
}

func serve(cmd *cobra.Command, f *flags, back bool) error {
	past, err := engine.StateOf(f.file, os.LookupEnv)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(f.file)
	if err != nil {
		content = nil // the loader says it better
	}
	onDisk := fmt.Sprintf("%x", sha256.Sum256(content))
	file, err := f.content(content)
	if back = back && err != nil; back {
		file, content, err = lastGood(f, past, err, func(w string) { fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w) })
	}
	if err != nil {
		return err
	}
	// Else the process would end when the reader of its log has gone. Now the
	// write fails, and the lines count as dropped.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)
	defer keepHeadroom()()
	g, err := build(file)
	if err != nil {
		return err
	}
	defer g.close(0)
	if err := g.server.Check(); err != nil {
		return fmt.Errorf("%s: %w", file.Path, err)
	}

	registry := admin.NewRegistry()
	metrics := door.NewMetrics(registry)
	service := door.New(*g.server, g.engine)
	var reloader *engine.Reloader // since the first generation serves; nobody asks before
	server := door.NewServer(door.Options{
		Config:  *g.server,
		Service: service,
		Doors:   native.New(service, metrics, g.log.Named("native")),
		Admin: admin.New(admin.Options{
			Gatherer: registry,
			Ready:    g.engine.Ready,
			Status:   func() admin.Status { return g.status(reloader.Serving()) },
			Reload: func(ctx context.Context, previous bool) admin.Reload {
				if previous {
					return reload(reloader.Previous(ctx, "admin, previous"), time.Now())
				}
				return reload(reloader.Reload(ctx, "admin"), time.Now())
			},
			Restart:  g.restart,
			Tap:      g.engine.Tap,
			Stopping: cmd.Context().Done(),
			Log:      g.log.Named("admin"),
		}),
		Metrics: metrics,
		Log:     g.log,
	})
	g.engine.Attach("server", server)
	if err := server.Listen(); err != nil {
		return fmt.Errorf("%s: %w", file.Path, err)
	}
	if err := g.start(cmd.Context()); err != nil {
		server.Close()
		return err
	}
	for _, w := range warnings(file) {
		g.log.Warn(w)
	}
	g.first.Watch()
	reloader = g.reloader(f, past, content, back)
	registry.MustRegister(admin.Collector(func() []core.Measurer {
		return []core.Measurer{g.engine, poolMeasures{g.pool}, g.lines, reloader}
	}))
	ctx, stop := context.WithCancel(cmd.Context())
	wait := g.follow(ctx, reloader, f.file, onDisk)
	defer func() { stop(); wait() }()
	address := engine.Address{PID: os.Getpid(), Started: time.Now()}
	if at := server.AdminAddr(); at != "" {
		address.Admin = door.URL(at)
	}
	if withdraw, err := past.Announce(address); err != nil {
		g.log.Warn("`dragoman reload` and its like will have to be told where this gateway is", zap.Error(err))
	} else {
		defer withdraw()
	}
	greet(cmd, file.Path, g.server, server.Addr(), server.AdminAddr())
	return server.Serve(ctx)
}

// greet says where the gateway is and gives one call to paste.
func greet(cmd *cobra.Command, file string, c *door.Config, addr, adminAddr string) {
	out := cmd.OutOrStdout()
	url := door.URL(addr)
	fmt.Fprintf(out, "Dragoman serves %s at %s\n", file, url)
	switch {
	case adminAddr == "":
		fmt.Fprintln(out, "no metrics: set server.admin to an address for them, such as 127.0.0.1:9090")
	case adminAddr != addr:
		fmt.Fprintf(out, "metrics and status at %s\n", door.URL(adminAddr))
	}
	auth := ""
	if len(c.Keys) > 0 {
		auth = ` -H "Authorization: Bearer $KEY"`
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && url == "http://127.0.0.1:"+port {
		url = "localhost:" + port
	}
	fmt.Fprintf(out, "try:  curl -s %s/v1/translate%s -d '{\"text\":\"Good morning. The new car is very fast.\",\"source\":\"en\",\"target\":\"es\"}'\n", url, auth)
}

// version is what the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
