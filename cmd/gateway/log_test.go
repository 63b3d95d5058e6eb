package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dragoman-mt/dragoman/core/door"
)

// planLog changes what a log was told.
func planLog(t *testing.T, o *logOutput, c logConfig) {
	t.Helper()
	apply, err := o.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

func TestTheLevelOfTheLogChangesForEveryLogger(t *testing.T) {
	var out bytes.Buffer
	log, o := newLogTo(&out, logConfig{Level: "warn", Format: "json"})
	child := log.Named("child").With(zap.Int("generation", 1))
	std, err := zap.NewStdLogAt(log, zap.DebugLevel)
	if err != nil {
		t.Fatal(err)
	}
	journal := door.NewJournal(log)
	say := func(when string) {
		log.Info(when + " own")
		child.Debug(when + " child")
		std.Print(when + " standard")
		journal.Served("native", when+" journal", "", 200, 1, time.Second)
		log.Error(when + " error")
	}
	say("warn")
	planLog(t, o, logConfig{Level: "debug", Format: "json"})
	say("debug")
	if _, err := o.Plan(&logConfig{Level: "error", Format: "json"}); err != nil {
		t.Fatal(err)
	}
	say("planned")
	planLog(t, o, logConfig{Level: "info", Format: "json"})
	say("info")
	o.Close()
	for text, want := range map[string]bool{
		"warn own": false, "warn child": false, "warn standard": false, "warn journal": false, "warn error": true,
		"debug own": true, "debug child": true, "debug standard": true, "debug journal": true, "debug error": true,
		"planned own": true, "planned child": true,
		"info own": true, "info child": false, "info standard": false, "info journal": false, "info error": true,
	} {
		if got := strings.Contains(out.String(), `"`+text+`"`); got != want {
			t.Errorf("%q is logged: %v", text, got)
		}
	}
	for _, c := range []any{logConfig{Level: "info"}, &logConfig{Level: "loud"}} {
		if _, err := o.Plan(c); err == nil {
			t.Errorf("%#v was planned", c)
		}
	}
}

func TestTheFormatOfTheLogChangesForEveryLogger(t *testing.T) {
	var out bytes.Buffer
	log, o := newLogTo(&out, logConfig{Level: "info", Format: "console"})
	child := log.Named("child").With(zap.String("place", "here")).With(zap.Duration("wait", time.Second))
	child.Info("first", zap.Int("n", 1))
	planLog(t, o, logConfig{Level: "info", Format: "json"})
	child.Info("second", zap.Int("n", 2))
	missing := string(o.note(7))
	planLog(t, o, logConfig{Level: "info", Format: "console"})
	child.Info("third", zap.Int("n", 3))
	o.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for i, word := range []string{0: "first", 2: "third"} {
		if want := "\tINFO\tchild\t" + word + "\t{\"place\": \"here\", \"wait\": \"1s\", \"n\": "; word != "" && !strings.Contains(lines[i], want) {
			t.Errorf("%q, want %q in it", lines[i], want)
		}
	}
	var second map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &second); err != nil || second["msg"] != "second" || second["logger"] != "child" || second["place"] != "here" || second["wait"] != 1. || second["n"] != 2. {
		t.Errorf("%s: %v", lines[1], err)
	}
	if err := json.Unmarshal([]byte(missing), &second); err != nil || second["dropped"] != 7. {
		t.Errorf("%s: %v", missing, err)
	}
}

// What is logged is the same as zap's own core would write.
func TestALineIsThatOfZap(t *testing.T) {
	for _, format := range []string{"console", "json"} {
		var got, want bytes.Buffer
		ours, o := newLogTo(&got, logConfig{Level: "debug", Format: format})
		theirs := zap.New(zapcore.NewCore(newEncoder(format), zapcore.AddSync(&want), zap.DebugLevel))
		at := zap.WithClock(stopped{})
		for _, log := range []*zap.Logger{ours.WithOptions(at), theirs.WithOptions(at)} {
			log.Info("plain")
			one := log.With(zap.Int("a", 1), zap.Namespace("in"), zap.Int("b", 2))
			one.Warn("nested", zap.Int("c", 3), zap.Strings("d", []string{"x", "y"}))
			one.With(zap.Int("e", 5)).Named("n").Error("deeper")
			one.Debug("again")
		}
		o.Close()
		if got.String() != want.String() {
			t.Errorf("%s: got\n%swant\n%s", format, &got, &want)
		}
	}
}

type stopped struct{}

func (stopped) Now() time.Time                         { return time.Unix(1, 0) }
func (stopped) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

func TestLinesAreWholeWhileTheLogChanges(t *testing.T) {
	var out bytes.Buffer
	log, o := newLogTo(&out, logConfig{Level: "info", Format: "json"})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 200 {
				log.With(zap.Int("who", i)).Error("counted", zap.Int("n", n))
			}
		})
	}
	for i := range 200 {
		planLog(t, o, logConfig{Level: []string{"debug", "error"}[i%2], Format: []string{"json", "console"}[i%2]})
	}
	all.Wait()
	o.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines)+int(o.lost()) != 800 {
		t.Errorf("%d lines, %v dropped", len(lines), o.lost())
	}
	for _, line := range lines {
		if strings.Count(line, "counted") != 1 || !strings.HasSuffix(line, "}") {
			t.Errorf("%q", line)
		}
	}
}

// What net/http quotes is what a server sent, which may be a text.
func TestTheStandardLoggerQuotesNoServer(t *testing.T) {
	var got strings.Builder
	logger := log.New(unquoted{&got}, "", 0)
	logger.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "a \"text\"\n", io.EOF)
	logger.Printf("protocol error: %q, cut: \"and so", "a text")
	if want := "Unsolicited response received on idle HTTP channel starting with \"...\"; err=EOF\nprotocol error: \"...\", cut: \"...\""; strings.TrimSpace(got.String()) != want {
		t.Errorf("got  %s\nwant %s", got.String(), want)
	}
}
