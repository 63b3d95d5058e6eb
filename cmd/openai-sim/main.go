// Command openai-sim serves the OpenAI API on this machine: it translates for
// real when Apertium is installed, else it pretends. It has the latencies,
// limits and faults that its flags ask for, or POST /sim/config.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/cmd/internal/lab/virtual"
	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live/livetest"
	"github.com/dragoman-mt/dragoman/core/text/phrases"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// A usageError is a command line that cannot be understood: exit status 2.
type usageError struct{ error }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := command(stdin, stdout, stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "openai-sim:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// flags are what the command line says beyond the server's own configuration.
type flags struct {
	profile       string
	latency, rtt  time.Duration
	engine, table string
	caOut         string
	faults        map[string]string
	stopWithStdin bool
	verbose       bool
}

func command(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var cfg openaitest.Config
	var f flags
	cmd := &cobra.Command{
		Use:   "openai-sim",
		Short: "An OpenAI-compatible server for trying, testing and measuring; it prints its base URL when it listens",
		Example: "  openai-sim --engine apertium\n" +
			"  openai-sim --tls --ca-out ca.pem --profile rough --rpm 600 --faults 500=0.01,hang=0.001\n\n" +
			"Faults:\n  " + strings.Join(openaitest.Kinds(), " "),
		Args:          func(c *cobra.Command, args []string) error { return usage(cobra.NoArgs(c, args)) },
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.apply(&cfg, cmd.Flags().Changed); err != nil {
				return usageError{err}
			}
			ctx := cmd.Context()
			if f.stopWithStdin {
				var stop context.CancelFunc
				ctx, stop = context.WithCancel(ctx)
				defer stop()
				go func() { // ends with the process: a read from stdin cannot be cancelled
					io.Copy(io.Discard, stdin)
					stop()
				}()
			}
			return serve(ctx, cfg, f, stdout, stderr)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(playCommand(stdin, stdout))
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:8081", "address; port 0 for a free one")
	fs.BoolVar(&cfg.TLS, "tls", false, "serve HTTPS with a certificate of its own, HTTP/1.1 and HTTP/2")
	fs.StringVar(&f.caOut, "ca-out", "", "write the PEM of the CA of that certificate to this file")
	fs.StringVar(&f.profile, "profile", "", "latency and round trip: steady (p50 300ms, p99 400ms, 50ms away) or rough (p99 900ms)")
	fs.DurationVar(&f.latency, "latency", 0, "time to the first byte of each answer, in place of the profile's")
	fs.DurationVar(&f.rtt, "rtt", 0, "emulated network round trip, in place of the profile's")
	fs.DurationVar(&cfg.IdleTimeout, "idle-timeout", 0, "close a used connection that was idle for so long (0: never)")
	fs.IntVar(&cfg.RPM, "rpm", 0, "limit of requests a minute (0: none)")
	fs.IntVar(&cfg.TPM, "tpm", 0, "limit of tokens a minute (0: none)")
	fs.StringVar(&f.engine, "engine", "pseudo", "what translates: pseudo, flicker (changes its mind while a sentence grows), table or apertium")
	fs.StringVar(&f.table, "table", "examples/phrases.tsv", "the phrases of --engine table")
	fs.StringToStringVar(&f.faults, "faults", nil, "how often requests fail, and how: `kind=rate,...`, of the kinds above")
	fs.StringArrayVar(&cfg.Keys, "key", nil, "an API key to take, may be repeated (default: any)")
	fs.Uint64Var(&cfg.Seed, "seed", 0, "makes the random choices: the same seed, the same choices")
	fs.BoolVar(&f.stopWithStdin, "stop-with-stdin", false, "end when standard input ends")
	fs.BoolVar(&f.verbose, "verbose", false, "log every request to standard error, not only those that meet a fault")
	return cmd
}

// playCommand is for other programs, which have a plan.
func playCommand(stdin io.Reader, stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "play",
		Short: "Play live sessions in virtual time, for `dragoman bench live --virtual` and `dragoman replay`",
		Long: `Play what was said in live sessions through their policy, in virtual time, with a
provider that is simulated. "dragoman bench live --virtual" and "dragoman replay" write
the plan to standard input, and read what was measured from standard output.`,
		Args:                  func(c *cobra.Command, args []string) error { return usage(cobra.NoArgs(c, args)) },
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			var p speech.Plan
			if err := json.NewDecoder(stdin).Decode(&p); err != nil {
				return fmt.Errorf("standard input is no plan: %w", err)
			}
			return json.NewEncoder(stdout).Encode(virtual.Play(p))
		},
	}
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{fmt.Errorf("%w; see `openai-sim --help`", err)}
}

// apply brings the flags into cfg.
func (f *flags) apply(cfg *openaitest.Config, given func(string) bool) error {
	if f.profile != "" {
		if err := cfg.Profile(f.profile); err != nil {
			return fmt.Errorf("--profile: there are steady and rough, got %q", f.profile)
		}
	}
	if given("latency") {
		cfg.Latency, cfg.LatencyP99 = f.latency, 0
	}
	if given("rtt") {
		cfg.RTT = f.rtt
	}
	if f.caOut != "" && !cfg.TLS {
		return errors.New("--ca-out: there is no CA without --tls")
	}
	cfg.Faults = map[string]float64{}
	for kind, text := range f.faults {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("--faults: %s: %q is not a rate between 0 and 1", kind, text)
		}
		cfg.Faults[kind] = rate
	}
	return nil
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, cfg openaitest.Config, f flags, stdout, stderr io.Writer) error {
	switch f.engine {
	case "pseudo":
		cfg.Engine = openaitest.Pseudo{}
	case "flicker":
		cfg.Engine = livetest.Flicker{}
	case "table":
		table, err := readTable(f.table)
		if err != nil {
			return err
		}
		cfg.Engine = table
	case "apertium":
		e, err := engine.New(engine.Options{})
		if err != nil {
			return fmt.Errorf("--engine apertium: %s", core.AsError(err, "").Detail)
		}
		defer e.Close()
		cfg.Engine = e
	default:
		return usageError{fmt.Errorf("--engine: there are pseudo, flicker, table and apertium, got %q", f.engine)}
	}
	cfg.Log = logger(stderr, f.verbose)
	s, err := openaitest.Start(cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program: end that one, or choose another address with --listen", cfg.Listen)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if f.caOut != "" {
		if err := os.WriteFile(f.caOut, s.CA(), 0o644); err != nil {
			return fmt.Errorf("--ca-out: %w", err)
		}
	}
	fmt.Fprintln(stdout, s.URL())
	<-ctx.Done()
	return nil
}

func readTable(path string) (openaitest.Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--table: %w", err)
	}
	defer f.Close()
	list, err := phrases.Read(f)
	if err != nil {
		return nil, fmt.Errorf("--table: %s: %w", path, err)
	}
	return openaitest.NewTable(list), nil
}

func logger(w io.Writer, verbose bool) *zap.Logger {
	level := zap.InfoLevel
	if verbose {
		level = zap.DebugLevel
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(w)), level))
}
