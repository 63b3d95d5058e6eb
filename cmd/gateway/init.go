package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

func (p program) initCommand() *cobra.Command {
	var file string
	var a answered
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a pipeline.yaml after three questions",
		Long: `Write a configuration file after three questions: which service translates, which
variable holds its key, and who may call. What a flag answers is not asked, and where
nobody can be asked, for standard input is no terminal or has ended, the default is
taken. A file that exists is never overwritten.

No key is written into the file, only the name of the variable that will hold it.

Exit status: 0 when the file is written, 1 when it is not, 2 when the command line
cannot be understood.`,
		Example: "  dragoman init\n  dragoman init --upstream deepl --listen network\n  dragoman init --upstream http://127.0.0.1:11434/v1 --model qwen3 --key none",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Lstat(file); err == nil {
				return fmt.Errorf("%s exists and is left as it is; name another file with --config, or move it away", file)
			}
			asks := asking{in: bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)), out: cmd.ErrOrStderr(), changed: cmd.Flags().Changed}
			if err := a.ask(&asks); err != nil {
				return err
			}
			content := []byte(a.yaml())
			if _, err := p.load(config.Options{File: file, Content: content, Offline: true}, host.New()); err != nil {
				return fmt.Errorf("nothing is written, since what these answers give cannot be served:\n%w", err)
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return err
			}
			if _, err = f.Write(content); err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err != nil {
				os.Remove(file) // half a file would be in the way of the next try
				return err
			}
			a.tell(cmd.OutOrStdout(), file)
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", usualFile(), "the configuration `FILE` to write; DRAGOMAN_CONFIG names another than pipeline.yaml")
	cmd.Flags().StringVar(&a.upstream, "upstream", "", "what translates: "+strings.Join(slices.Sorted(slices.Values(upstreamNames())), ", ")+", or the `URL` of a server that speaks OpenAI's protocol")
	cmd.Flags().StringVar(&a.model, "model", "", "the `NAME` of the model, for an --upstream that speaks OpenAI's protocol")
	cmd.Flags().StringVar(&a.key, "key", "", "the `VARIABLE` that holds its key; none for a server without keys")
	cmd.Flags().StringVar(&a.listen, "listen", "", "who may call: machine, network, or an `ADDRESS` to listen on")
	return cmd
}

// An upstreamKind is a service that init knows, and the variable that usually holds its key.
type upstreamKind struct{ name, key, more string }

var upstreamKinds = []upstreamKind{
	{"openai", "OPENAI_API_KEY", ""},
	{"deepl", "DEEPL_API_KEY", ""},
	{"google", "GOOGLE_API_KEY", ""},
	{"azure", "AZURE_TRANSLATOR_KEY", ""},
	{"libretranslate", "none", "    base_url: ${LIBRETRANSLATE_URL:-http://127.0.0.1:5000}\n"},
}

func upstreamNames() (all []string) {
	for _, k := range upstreamKinds {
		all = append(all, k.name)
	}
	return all
}

// answered is what was answered, by flags or by somebody who was asked.
type answered struct{ upstream, model, key, listen string }

// An asking asks what no flag has answered.
type asking struct {
	in      *bufio.Reader
	out     io.Writer
	changed func(flag string) bool
	ended   bool
}

// one asks one question. An empty answer, or none, is usual.
func (q *asking) one(flag, answer, question, usual string) string {
	if q.changed(flag) {
		return answer
	}
	if q.ended {
		return usual
	}
	fmt.Fprintf(q.out, "%s [%s] ", question, usual)
	line, err := q.in.ReadString('\n')
	if err != nil {
		q.ended = true
		fmt.Fprintln(q.out)
	}
	if line = strings.TrimSpace(line); line == "" {
		return usual
	}
	return line
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ask asks the three questions, and says what is wrong with an answer.
func (a *answered) ask(q *asking) error {
	a.upstream = q.one("upstream", a.upstream, "What translates: "+strings.Join(upstreamNames(), ", ")+", or the URL and model of a server that speaks OpenAI's protocol?", "openai")
	if at, model, ok := strings.Cut(a.upstream, " "); ok && a.model == "" {
		a.upstream, a.model = at, strings.TrimSpace(model)
	}
	kind := a.kind()
	if kind == nil {
		u, err := url.Parse(a.upstream)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return usageError{fmt.Errorf("--upstream: what was given is none of %s, and no URL such as http://127.0.0.1:11434/v1", strings.Join(upstreamNames(), ", "))}
		}
		if u.User != nil {
			return usageError{errors.New("--upstream: a URL with a name or a password does not belong into a file; give it without, and the key in a variable")}
		}
		if a.model == "" {
			return usageError{errors.New("--model: a server at a URL needs the name of a model, such as --model qwen3; when asked, write it behind the URL")}
		}
		kind = &upstreamKind{key: "none"}
		if u.Scheme == "https" {
			kind.key = "OPENAI_API_KEY"
		}
	} else if a.model != "" && kind.name != "openai" {
		return usageError{fmt.Errorf("--model: %s has no models to choose; leave it out", kind.name)}
	}
	a.key = q.one("key", a.key, "Which variable holds its key? (none for a server without keys)", kind.key)
	if a.key != "none" && !variable.MatchString(a.key) {
		// It may be a key, so it is not shown.
		return usageError{errors.New("--key: what was given is no name of a variable; a name such as OPENAI_API_KEY has letters, digits and _ alone, and the key itself stays out of files and of the shell's history")}
	}
	a.listen = q.one("listen", a.listen, "Who may call: machine, for programs on this one, network, for others with a key, or an address to listen on?", "machine")
	switch a.listen {
	case "machine":
		a.listen = "127.0.0.1:8080"
	case "network":
		a.listen = "0.0.0.0:8080"
	}
	_, port, err := net.SplitHostPort(a.listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return usageError{fmt.Errorf("--listen: %.100q is neither machine nor network, nor an address and a port such as 127.0.0.1:8080", a.listen)}
	}
	return nil
}

func (a *answered) kind() *upstreamKind {
	for i := range upstreamKinds {
		if upstreamKinds[i].name == a.upstream {
			return &upstreamKinds[i]
		}
	}
	return nil
}

// beyond says whether other machines reach the address, so that there must be keys.
func (a *answered) beyond() bool {
	host, _, _ := net.SplitHostPort(a.listen)
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// yaml is the file.
func (a *answered) yaml() string {
	var b strings.Builder
	b.WriteString("# Save, and the running gateway follows. A mistake changes nothing and is reported with its line.\nversion: 1\nserver:\n")
	listen := a.listen
	if host, port, _ := net.SplitHostPort(listen); host != "" && !strings.Contains(host, ":") {
		listen = "${HOST:-" + host + "}:${PORT:-" + port + "}" // as containers say it
	}
	fmt.Fprintf(&b, "  listen: %q\n", listen)
	if a.beyond() {
		b.WriteString("  admin: 127.0.0.1:9090         # metrics, for this machine\n  keys: [\"${DRAGOMAN_KEY}\"]     # what clients send as Authorization: Bearer\n")
	}
	kind, name := a.kind(), a.upstream
	if kind == nil {
		kind, name = &upstreamKind{name: "openai", more: fmt.Sprintf("    base_url: %q\n", a.upstream)}, "server"
	}
	fmt.Fprintf(&b, "providers:\n  %s:\n    type: %s\n%s", name, kind.name, kind.more)
	if a.key != "none" {
		fmt.Fprintf(&b, "    api_key: ${%s:-}\n", a.key)
	}
	switch {
	case a.model != "":
		fmt.Fprintf(&b, "    model: %q\n", a.model)
	case kind.name == "openai":
		b.WriteString("    model: gpt-5.4-nano\n")
	}
	fmt.Fprintf(&b, "stages:\n  - cache\n  - ratelimit: {requests_per_minute: 4500}   # your account's; lowered by its headers\n  - queue: {max_concurrent: 6}\n  - provider: {use: %s, retries: 1}\n  - postprocess\n  - protect\n", name)
	return b.String()
}

// tell says what comes next.
func (a *answered) tell(out io.Writer, file string) {
	fmt.Fprintf(out, "%s is written\n", file)
	if a.key != "none" && os.Getenv(a.key) == "" {
		fmt.Fprintf(out, "put the key of %s into the variable %s\n", a.upstream, a.key)
	}
	if a.beyond() && os.Getenv("DRAGOMAN_KEY") == "" {
		fmt.Fprintln(out, "put a key of your own into DRAGOMAN_KEY: what clients send as Authorization: Bearer")
	}
	fmt.Fprintf(out, "then:  dragoman check --config %[1]s && dragoman serve --config %[1]s\n", file)
}
