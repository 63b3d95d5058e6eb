package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

func noted(dropped int64) []byte { return fmt.Appendf(nil, "dropped %d\n", dropped) }

func (w *logWriter) lost() (n float64) {
	w.Measure(func(m core.Measure) { n = m.Value })
	return n
}

// A stuck writer takes nothing until it is told to.
type stuck struct {
	bytes.Buffer
	let chan error // one for each write
}

func (s *stuck) Write(b []byte) (int, error) {
	if err := <-s.let; err != nil {
		half := len(b) / 2
		s.Buffer.Write(b[:half])
		return half, err
	}
	return s.Buffer.Write(b)
}

// The writer is told of lines that it has taken already, and finds none: what it
// writes next is not what new lines are collected in.
func TestALineIsNotOverwrittenByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuck{let: make(chan error)}
		w := newLogWriter(out, noted)
		for _, line := range []string{"one  \n", "two  \n"} {
			w.Write([]byte(line))
			out.let <- nil
			synctest.Wait()
		}
		w.more <- struct{}{}
		synctest.Wait()
		for _, line := range []string{"three\n", "four \n"} {
			w.Write([]byte(line))
			synctest.Wait()
		}
		out.let <- nil
		out.let <- nil
		w.Close()
		if got := out.String(); got != "one  \ntwo  \nthree\nfour \n" {
			t.Errorf("written %q", got)
		}
	})
}

// Whatever is logged, and however the reader comes and goes: nobody waits,
// lines are whole and in order, and at every place where some are missing it is
// said how many.
func TestEveryLineIsWrittenOrCounted(t *testing.T) {
	property.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 200).Draw(rt, "steps")
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			out := &stuck{let: make(chan error)}
			w := newLogWriter(out, noted)
			n := 0
			for _, step := range steps {
				switch step {
				case 0: // the reader takes what is there
					select {
					case out.let <- nil:
					default:
					}
				default:
					line := fmt.Sprintf("%d %s\n", n, strings.Repeat("x", step<<14))
					w.Write([]byte(line)) // would deadlock if it waited
					n++
				}
				synctest.Wait()
			}
			go w.Close()
			go func() {
				for {
					select {
					case out.let <- nil:
					case <-w.done:
						return
					}
				}
			}()
			<-w.done
			next, sum := 0, 0
			for line := range strings.Lines(out.String()) {
				word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
				if word == "dropped" {
					missing, _ := strconv.Atoi(rest)
					next, sum = next+missing, sum+missing
					continue
				}
				// Behind a long line that found no room a shorter one may have
				// found some: then the note comes a little late.
				if at, err := strconv.Atoi(word); err != nil || at < next || strings.Trim(rest, "x") != "" {
					wrong = fmt.Sprintf("line %.20q where %d was next", line, next)
					return
				}
				next++
			}
			if next != n || float64(sum) != w.lost() {
				wrong = fmt.Sprintf("%d of %d lines are accounted for, %d noted as dropped and %v counted", next, n, sum, w.lost())
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func TestLinesThatCannotBeWrittenAreCountedAndNotedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuck{let: make(chan error)}
		w := newLogWriter(out, noted)
		w.Write([]byte("aaaa\n"))
		synctest.Wait() // it is being written
		w.Write([]byte("bbbb\n"))
		w.Write([]byte("cccc\n"))
		out.let <- nil
		out.let <- errors.New("broken pipe") // in the middle of the two
		synctest.Wait()
		if w.lost() != 1 {
			t.Errorf("%v lines are counted as dropped, want 1", w.lost())
		}
		w.Write([]byte("dddd\n"))
		out.let <- nil
		w.Close()
		if got := out.String(); got != "aaaa\nbbbb\ndddd\ndropped 1\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestTheLastLinesAreGivenASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := io.Pipe()
		w := newLogWriter(out, noted)
		w.Write([]byte("never read\n"))
		begin := time.Now()
		w.Close()
		if took := time.Since(begin); took != lastWords {
			t.Errorf("closing took %v, want %v", took, lastWords)
		}
		w.Write([]byte("too late\n")) // and harms nobody
		r.Close()
		<-w.done
	})
}

// noisy is a gateway whose every text fails upstream and is logged twice.
const noisy = `version: 1
log: {level: debug}
providers:
  openai: {type: openai, base_url: "%[1]s", api_key: test}
  other: {type: openai, base_url: "%[1]s", api_key: test}
stages:
  - queue: {min_interval: 0s, max_concurrent: 64}
  - provider: {use: openai, fallback: [other], breaker: {failures: 0}}
`

// A logPipe is a gateway that logs into a pipe.
type logPipe struct {
	*gatewayProcess
	read *os.File
}

func serveIntoPipe(t *testing.T) *logPipe {
	t.Helper()
	s := simulate(t, "--faults", "500=1")
	file := write(t, fmt.Sprintf(noisy, s.base))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	p := prepare(t, filepath.Dir(file), nil, filepath.Join(programs, "dragoman"), "serve", "--config", file, "--set", "server.listen=127.0.0.1:0")
	p.cmd.Stderr = w
	p.begin()
	w.Close()
	return &logPipe{&gatewayProcess{p, p.see(`at (http://127\.0\.0\.1:\d+)`)}, r}
}

// complain asks for n times fifty texts, and fails when an answer does not
// come.
func (g *logPipe) complain(n int) {
	g.t.Helper()
	body := `{"source":"en","target":"es","text":["` + strings.Repeat(`Hello.","`, 49) + `Hello."]}`
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range n / 4 {
				res, err := client.Post(g.url+"/v1/translate", "application/json", strings.NewReader(body))
				if err != nil {
					g.t.Error("no answer:", err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusBadGateway {
					g.t.Errorf("status %d, want that every text failed", res.StatusCode)
				}
			}
		})
	}
	all.Wait()
}

func TestALogThatNobodyReadsDelaysNobody(t *testing.T) {
	g := serveIntoPipe(t)
	const dropped = "dragoman_log_dropped_lines_total"
	for round := 0; g.metric(dropped) == "0"; round++ {
		if g.complain(40); t.Failed() || round == 20 {
			t.Fatal("no line was ever dropped")
		}
	}
	g.complain(8)
	want, err := strconv.Atoi(g.metric(dropped))
	if err != nil {
		t.Fatal(err)
	}

	// Somebody reads again, and is told.
	noted := 0
	re := regexp.MustCompile(`log lines were dropped.*\{"dropped": (\d+)\}`)
	lines := bufio.NewReader(g.read)
	for noted < want {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%d of %d dropped lines are told: %v", noted, want, err)
		}
		if found := re.FindStringSubmatch(line); found != nil {
			n, _ := strconv.Atoi(found[1])
			noted += n
		}
	}
	if noted != want {
		t.Errorf("%d dropped lines are told, and %d counted", noted, want)
	}
	go io.Copy(io.Discard, lines)
	g.complain(4)
	if now := g.metric(dropped); now != fmt.Sprint(want) {
		t.Errorf("%s lines are dropped while somebody reads, %d before", now, want)
	}
}

func TestAGatewayEndsThoughNobodyReadsItsLog(t *testing.T) {
	g := serveIntoPipe(t)
	for g.metric("dragoman_log_dropped_lines_total") == "0" && !t.Failed() {
		g.complain(40)
	}
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestAGatewayOutlivesTheReaderOfItsLog(t *testing.T) {
	g := serveIntoPipe(t)
	g.read.Close()
	g.complain(4)
	if g.metric("dragoman_log_dropped_lines_total") == "0" {
		t.Error("lines without a reader are not counted")
	}
	g.signal(syscall.SIGTERM)
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
