package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core/config"
)

// never is longer than any test.
const never = time.Hour

// A following is a follower at work. The file held "first" when it began, unless
// a test says otherwise, and it has looked at that.
type following struct {
	*testing.T
	file    string
	reports chan string
	told    chan string
	logs    *observer.ObservedLogs
	stop    func()
}

func hashOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func follow(t *testing.T, file string, change ...func(*follower)) *following {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w := &following{T: t, file: file, reports: make(chan string, 100), told: make(chan string, 100_000), logs: logs}
	f := &follower{
		file: file, hash: hashOf("first"), log: zap.New(core),
		changed: func(content []byte) { w.reports <- string(content) },
		pause:   20 * time.Millisecond, patience: never, poll: never,
		open: fsnotify.NewWatcher,
		told: func(what string) { w.told <- what },
	}
	for _, c := range change {
		c(f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	w.stop = func() { cancel(); <-done }
	t.Cleanup(w.stop)
	// The first look only sees that there is a file, the second reads it.
	w.waitFor("looked")
	w.waitFor("looked")
	return w
}

func impatient(f *follower) { f.patience = 40 * time.Millisecond }
func polling(f *follower)   { f.poll = 30 * time.Millisecond }
func withoutEvents(f *follower) {
	polling(f)
	f.open = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many watchers") }
}

func (w *following) waitFor(what string) {
	w.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case got := <-w.told:
			if got == what {
				return
			}
		case <-deadline:
			w.Fatalf("waited 10 s for the follower to have %s", what)
		}
	}
}

// looksAfter does something and returns when the follower has looked since it
// heard of that.
func (w *following) looksAfter(do func()) {
	w.Helper()
	for len(w.told) > 0 {
		<-w.told
	}
	do()
	w.waitFor("heard")
	w.waitFor("looked")
}

func (w *following) reported(want string) {
	w.Helper()
	select {
	case got := <-w.reports:
		if got != want {
			w.Fatalf("reported %.60q, want %.60q", got, want)
		}
	case <-time.After(10 * time.Second):
		w.Fatalf("waited 10 s for the report of %.60q", want)
	}
}

func (w *following) silent() {
	w.Helper()
	select {
	case got := <-w.reports:
		w.Fatalf("reported %.60q", got)
	default:
	}
}

// logged waits for the n-th message of the log and returns them all.
func (w *following) logged(n int) []string {
	w.Helper()
	var lines []string
	for end := time.Now().Add(10 * time.Second); len(lines) < n && time.Now().Before(end); {
		if w.logs.Len() < n {
			w.waitFor("looked")
		}
		lines = nil
		for _, e := range w.logs.All() {
			line := fmt.Sprintf("%s: %s", e.Level, e.Message)
			if why, ok := e.ContextMap()["reason"]; ok {
				line += fmt.Sprintf(": %v", why)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(content), 0o644))
}

// placed returns a file that holds "first".
func placed(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	write(t, file, "first")
	return file
}

// renamedOver puts content into file as vim and sed -i do.
func renamedOver(t *testing.T, file, content string) {
	t.Helper()
	write(t, file+"~", content)
	must(t, os.Rename(file+"~", file))
}

// mounted returns a file of a ConfigMap that holds "first", and what swaps its
// content as the kubelet does.
func mounted(t *testing.T) (file string, swap func(content string)) {
	dir, n := t.TempDir(), 0
	swap = func(content string) {
		t.Helper()
		n++
		real := fmt.Sprintf("..2026_%d", n)
		must(t, os.Mkdir(filepath.Join(dir, real), 0o755))
		write(t, filepath.Join(dir, real, "pipeline.yaml"), content)
		must(t, os.Symlink(real, filepath.Join(dir, "..data_tmp")))
		old, _ := os.Readlink(filepath.Join(dir, "..data"))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if old != "" {
			must(t, os.RemoveAll(filepath.Join(dir, old)))
		}
	}
	swap("first")
	file = filepath.Join(dir, "pipeline.yaml")
	must(t, os.Symlink("..data/pipeline.yaml", file))
	return file, swap
}

func TestFollowsEveryWayInWhichAFileChanges(t *testing.T) {
	type change func(content string)
	for name, prepare := range map[string]func(t *testing.T) (file string, do change){
		"written in place": func(t *testing.T) (string, change) {
			file := placed(t)
			return file, func(content string) { write(t, file, content) }
		},
		"renamed over": func(t *testing.T) (string, change) {
			file := placed(t)
			return file, func(content string) { renamedOver(t, file, content) }
		},
		"removed and written anew": func(t *testing.T) (string, change) {
			file := placed(t)
			return file, func(content string) { must(t, os.Remove(file)); write(t, file, content) }
		},
		"a ConfigMap swapped": func(t *testing.T) (string, change) {
			file, swap := mounted(t)
			return file, func(content string) { swap(content) }
		},
		"a symbolic link pointed elsewhere": func(t *testing.T) (string, change) {
			file, n := placed(t), 0
			at := func() string { return fmt.Sprintf("%s.%d", file, n) }
			must(t, os.Rename(file, at()))
			must(t, os.Symlink(at(), file))
			return file, func(content string) {
				n++
				write(t, at(), content)
				must(t, os.Symlink(at(), file+".new"))
				must(t, os.Rename(file+".new", file))
			}
		},
		"the file behind a link to a link": func(t *testing.T) (string, change) {
			real, dir := placed(t), t.TempDir()
			must(t, os.Symlink(filepath.Dir(real), filepath.Join(dir, "current")))
			file := filepath.Join(dir, "pipeline.yaml")
			must(t, os.Symlink("./current/../"+filepath.Base(filepath.Dir(real))+"//pipeline.yaml", file))
			return file, func(content string) { write(t, real, content) }
		},
		"its folder replaced": func(t *testing.T) (string, change) {
			dir := filepath.Join(t.TempDir(), "conf")
			must(t, os.Mkdir(dir, 0o755))
			file := filepath.Join(dir, "pipeline.yaml")
			write(t, file, "first")
			return file, func(content string) {
				must(t, os.RemoveAll(dir))
				must(t, os.Mkdir(dir, 0o755))
				write(t, file, content)
			}
		},
		"its folder renamed over": func(t *testing.T) (string, change) {
			dir := filepath.Join(t.TempDir(), "conf")
			must(t, os.Mkdir(dir, 0o755))
			file := filepath.Join(dir, "pipeline.yaml")
			write(t, file, "first")
			return file, func(content string) {
				must(t, os.Mkdir(dir+".new", 0o755))
				write(t, filepath.Join(dir+".new", "pipeline.yaml"), content)
				must(t, os.Rename(dir, dir+".old"))
				must(t, os.Rename(dir+".new", dir))
				must(t, os.RemoveAll(dir+".old"))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			file, do := prepare(t)
			w := follow(t, file)
			// Twice, and more: it goes on after the first.
			for i := range 4 {
				content := fmt.Sprintf("content %d", i)
				do(content)
				w.reported(content)
			}
			w.silent()
		})
		t.Run(name+", told of nothing", func(t *testing.T) {
			file, do := prepare(t)
			w := follow(t, file, withoutEvents)
			for i := range 2 {
				content := fmt.Sprintf("content %d", i)
				do(content)
				w.reported(content)
			}
			w.silent()
		})
	}
}

// The content of the file is a reference, or several: what they name is written, swapped
// as the kubelet does with a Secret, deleted and brought back.
func TestFollowsTheFilesThatTheFileNames(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	secret, swap := mounted(t)
	file := filepath.Join(dir, "pipeline.yaml")
	content := "first ${file:key} ${file:" + secret + "} ${file:none:-}"
	write(t, file, content)
	write(t, key, "one")
	for name, told := range map[string]func(*follower){"by the system": func(*follower) {}, "by looking": withoutEvents} {
		t.Run(name, func(t *testing.T) {
			again := make(chan string, 100)
			w := follow(t, file, told, func(f *follower) {
				f.hash, f.patience = hashOf(content), 40*time.Millisecond
				f.names = func(content []byte) []string { return config.Named(content, file, os.LookupEnv) }
				f.named = func(content []byte) { again <- string(content) }
			})
			reported := func(after string) {
				t.Helper()
				select {
				case got := <-again:
					if got != content {
						t.Errorf("after %s: reported %q", after, got)
					}
				case got := <-w.reports:
					t.Errorf("after %s: reported as another content: %q", after, got)
				case <-time.After(10 * time.Second):
					t.Fatalf("after %s: waited 10 s for a report", after)
				}
			}
			reported("the start, for they may have changed since the file was loaded")
			n := time.Now().Nanosecond()
			write(t, key, fmt.Sprint("two", n))
			reported("it was written in place")
			renamedOver(t, key, fmt.Sprint("three", n))
			reported("it was renamed over")
			swap(fmt.Sprint("second", n))
			reported("a Secret was swapped")
			must(t, os.Remove(key))
			reported("it was deleted")
			write(t, key, fmt.Sprint("four", n))
			reported("it is back")
			must(t, os.Chtimes(key, time.Now(), time.Now()))
			write(t, key, fmt.Sprint("five", n))
			reported("it was touched and written")
			if len(again) > 0 {
				t.Error("one change was reported twice")
			}
		})
	}
}

func TestFollowsAFileOfARelativeName(t *testing.T) {
	file := placed(t)
	t.Chdir(filepath.Dir(file))
	w := follow(t, "pipeline.yaml")
	write(t, file, "second")
	w.reported("second")
}

func TestFollowReportsWhatChangedBeforeItBegan(t *testing.T) {
	file := placed(t)
	write(t, file, "while it started")
	follow(t, file).reported("while it started")
}

func TestFollowReportsNoContentTwice(t *testing.T) {
	file := placed(t)
	w := follow(t, file)
	for name, do := range map[string]func(){
		"touched":         func() { must(t, os.Chtimes(file, time.Now(), time.Now())) },
		"chmod":           func() { must(t, os.Chmod(file, 0o600)) },
		"written again":   func() { write(t, file, "first") },
		"renamed over":    func() { renamedOver(t, file, "first") },
		"gone and return": func() { must(t, os.Remove(file)); write(t, file, "first") },
	} {
		w.looksAfter(do)
		select {
		case got := <-w.reports:
			t.Errorf("%s: reported %q", name, got)
		default:
		}
	}
	write(t, file, "second")
	w.reported("second")
}

func TestFollowLooksAwayFromWhatLiesBeside(t *testing.T) {
	file := placed(t)
	w := follow(t, file)
	write(t, file+".swp", "an editor's")
	for i := range 3 {
		renamedOver(t, fmt.Sprintf("%s.%d", file, i), "a backup")
	}
	must(t, os.Chmod(file, 0o600)) // the one that concerns it
	heard := 0
	for what := ""; what != "looked"; what = <-w.told {
		if what == "heard" {
			heard++
		}
	}
	if heard != 1 {
		t.Errorf("heard %d changes, want that of the file's mode", heard)
	}
}

// It writes for three pauses, and leaves the file alone for less than half of
// one: what is reported is the end.
func TestFollowReportsASlowWriteOnce(t *testing.T) {
	for pause := 300 * time.Millisecond; pause < 10*time.Second; pause *= 2 {
		file := placed(t)
		w := follow(t, file, func(f *follower) { f.pause = pause })
		out, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
		must(t, err)
		content, longest := "", time.Duration(0)
		for began, last := time.Now(), time.Now(); time.Since(began) < 3*pause; {
			fmt.Fprint(out, "line\n")
			content += "line\n"
			w.waitFor("heard")
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
		must(t, out.Close())
		if longest > pause/2 {
			t.Logf("the machine slept for %v: again, with more time", longest)
			w.stop()
			continue
		}
		w.reported(content)
		w.silent()
		return
	}
	t.Error("the machine was too busy, however long it was given")
}

func TestFollowReportsManyQuickWritesOnce(t *testing.T) {
	file := placed(t)
	w := follow(t, file, func(f *follower) { f.pause = time.Second / 2 })
	for i := range 200 {
		renamedOver(t, file, fmt.Sprint("content ", i))
	}
	w.reported("content 199")
	w.silent()
}

func TestFollowDoesNotReportAFileThatAnEditorIsAboutToFill(t *testing.T) {
	file := placed(t)
	w := follow(t, file)
	w.looksAfter(func() { must(t, os.Truncate(file, 0)) })
	w.silent()
	write(t, file, "second")
	w.reported("second")
}

func TestFollowReportsAFileThatStaysEmpty(t *testing.T) {
	file := placed(t)
	w := follow(t, file, impatient)
	must(t, os.Truncate(file, 0))
	w.reported("")
	write(t, file, "second")
	w.reported("second")
}

func TestFollowWarnsOnceOfAFileThatIsGoneAndReadsItWhenItIsBack(t *testing.T) {
	file := placed(t)
	w := follow(t, file, impatient)
	must(t, os.Remove(file))
	w.logged(1)
	w.looksAfter(func() { must(t, os.Chmod(filepath.Dir(file), 0o700)) })
	w.looksAfter(func() { must(t, os.Chmod(filepath.Dir(file), 0o755)) })
	write(t, file, "second")
	w.reported("second")
	got := strings.Join(w.logged(2), "\n")
	if want := "warn: the configuration cannot be read, what was loaded goes on: there is no such file\ninfo: the configuration can be read again"; got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

func TestFollowDoesNotWaitForAPipe(t *testing.T) {
	file := placed(t)
	w := follow(t, file, impatient)
	must(t, os.Remove(file))
	must(t, syscall.Mkfifo(file, 0o600))
	if got := w.logged(1)[0]; !strings.HasSuffix(got, "it is not a regular file") {
		t.Error(got)
	}
	must(t, os.Remove(file))
	write(t, file, "second")
	w.reported("second")
}

func TestFollowCutsAHugeFileWhereTheLoaderComplains(t *testing.T) {
	file := placed(t)
	w := follow(t, file)
	content := strings.Repeat("#", 2*config.MaxFile)
	renamedOver(t, file, content)
	w.reported(content[:config.MaxFile+1])
}

func TestFollowReportsTheNewestAfterABusyCall(t *testing.T) {
	file := placed(t)
	entered, leave := make(chan string), make(chan struct{})
	var calls atomic.Int64
	w := follow(t, file, func(f *follower) {
		f.changed = func(content []byte) {
			if calls.Add(1) > 1 {
				t.Errorf("called with %q while another call runs", content)
			}
			entered <- string(content)
			<-leave
			calls.Add(-1)
		}
	})
	// Another, which is not busy, tells when a change is due.
	idle := follow(t, file)
	write(t, file, "second")
	if got := <-entered; got != "second" {
		t.Fatal(got)
	}
	idle.reported("second")
	for i := range 3 {
		renamedOver(t, file, fmt.Sprint("content ", i))
		idle.reported(fmt.Sprint("content ", i))
	}
	leave <- struct{}{}
	if got := <-entered; got != "content 2" {
		t.Errorf("reported %q", got)
	}
	// What comes and goes meanwhile is no change.
	renamedOver(t, file, "third")
	idle.reported("third")
	renamedOver(t, file, "content 2")
	idle.reported("content 2")
	for len(w.told) > 0 {
		<-w.told
	}
	leave <- struct{}{}
	w.waitFor("looked")
	select {
	case got := <-entered:
		t.Errorf("reported %q", got)
	default:
	}
	renamedOver(t, file, "fourth")
	if got := <-entered; got != "fourth" {
		t.Errorf("reported %q", got)
	}
	close(leave)
}

func TestFollowFindsWhatLostEventsHide(t *testing.T) {
	open := func(watcher **fsnotify.Watcher) func(f *follower) {
		return func(f *follower) {
			f.open = func() (w *fsnotify.Watcher, err error) {
				*watcher, err = fsnotify.NewWatcher()
				return *watcher, err
			}
		}
	}
	breakAll := func(t *testing.T, watcher *fsnotify.Watcher) {
		for _, folder := range watcher.WatchList() {
			must(t, watcher.Remove(folder))
		}
	}
	t.Run("a queue that ran over", func(t *testing.T) {
		var watcher *fsnotify.Watcher
		file := placed(t)
		w := follow(t, file, open(&watcher))
		breakAll(t, watcher)
		write(t, file, "second")
		watcher.Errors <- fsnotify.ErrEventOverflow
		w.reported("second")
		write(t, file, "third") // heard again
		w.reported("third")
	})
	t.Run("a watch that broke", func(t *testing.T) {
		var watcher *fsnotify.Watcher
		file := placed(t)
		w := follow(t, file, open(&watcher), polling)
		for _, content := range []string{"second", "third"} {
			breakAll(t, watcher)
			write(t, file, content)
			w.reported(content)
		}
	})
	t.Run("a way whose beginning was renamed", func(t *testing.T) {
		top := filepath.Join(t.TempDir(), "top")
		must(t, os.MkdirAll(filepath.Join(top, "a", "b"), 0o755))
		file := filepath.Join(top, "a", "b", "pipeline.yaml")
		write(t, file, "first")
		old := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		must(t, os.Chtimes(file, old, old))
		w := follow(t, file, polling)
		must(t, os.Rename(top, top+".moved"))
		must(t, os.Symlink(top+".moved", top))
		w.waitFor("looked") // though the file is the same
		write(t, file, "second")
		w.waitFor("heard") // by the folder's new name
		w.reported("second")
	})
	// Written in the same tick of the file's clock as the last reading, with the
	// same size.
	t.Run("a change that left no other time", func(t *testing.T) {
		file := placed(t)
		now := time.Now()
		must(t, os.Chtimes(file, now, now))
		w := follow(t, file, withoutEvents, func(f *follower) { f.poll = time.Second })
		write(t, file, "FIRST")
		must(t, os.Chtimes(file, now, now))
		w.reported("FIRST")
	})
}

func TestFollowSaysOnceThatItIsNotTold(t *testing.T) {
	file := placed(t)
	w := follow(t, file, withoutEvents)
	for i := range 3 {
		write(t, file, fmt.Sprint("content ", i))
		w.reported(fmt.Sprint("content ", i))
	}
	if got := w.logged(1); len(got) != 1 || !strings.Contains(got[0], "warn: the system does not tell") {
		t.Error(got)
	}
}

func TestFollowEndsWithItsContextAndItsLastCall(t *testing.T) {
	before := goleak.IgnoreCurrent()
	file := placed(t)
	ctx, cancel := context.WithCancel(context.Background())
	entered, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		Follow(ctx, file, hashOf("other"), zap.NewNop(), func([]byte) {
			close(entered)
			<-ctx.Done()
			select {
			case <-done:
				t.Error("it returned before the last call had")
			case <-time.After(100 * time.Millisecond):
			}
		}, func([]byte) {})
	}()
	<-entered
	cancel()
	<-done
	goleak.VerifyNone(t, before)
}

func TestTheStepsToAFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	write(t, filepath.Join(dir, "real", "file"), "")
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	must(t, os.Symlink("../link/file", filepath.Join(dir, "real", "to")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	must(t, os.Symlink("/", filepath.Join(dir, "top")))
	for file, want := range map[string]string{
		"real/file":         "real/file",
		"link/file":         "link real/file",
		"link/to":           "link real/to link real/file",
		"real/none":         "real/none",
		"none/deeper/file":  "none",
		"real/file/below":   "real/file/below",
		"loop/file":         strings.TrimSpace(strings.Repeat("loop ", maxLinks+1)),
		"top/" + dir + "/x": "top x",
	} {
		var got []string
		for _, step := range steps(filepath.Join(dir, file)) {
			got = append(got, strings.TrimPrefix(step, dir+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	f := &follower{steps: []string{"/pipeline.yaml"}}
	if !f.concerns(fsnotify.Event{Name: "//pipeline.yaml"}) {
		t.Error("a file in the root folder is not heard")
	}
}
