package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if v, ok := strings.CutPrefix(p, name+"="); ok {
				return v, true
			}
		}
		return "", false
	}
}

func stateIn(t testing.TB, dir string) Folder {
	t.Helper()
	s, err := Of("/etc/dragoman/pipeline.yaml", env("STATE_DIRECTORY="+dir))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newFolder has a folder that is not there yet.
func newFolder(t testing.TB) Folder { return stateIn(t, filepath.Join(t.TempDir(), "state")) }

// at is the n-th second of a day.
func at(n int) time.Time { return time.Date(2026, 11, 23, 0, 0, n, 0, time.UTC) }

// back takes a step back from content and notes it, as a gateway does.
func back(t *testing.T, s Folder, from string, now time.Time) string {
	t.Helper()
	k, err := s.Before(Hash([]byte(from)))
	if errors.Is(err, ErrNothingOlder) {
		return "nothing"
	}
	must(t, err)
	must(t, s.WentBack(k.Content, now))
	return string(k.Content)
}

func TestTheStateOfAFileHasAFolderThatAPersonCanTell(t *testing.T) {
	mine := fmt.Sprintf("dragoman-state-%d", os.Getuid())
	const name = "pipeline.yaml-"
	for _, c := range []struct{ env, want string }{
		{"STATE_DIRECTORY=/var/lib/dragoman XDG_STATE_HOME=/x HOME=/home/a", "/var/lib/dragoman"},
		{"STATE_DIRECTORY=/var/lib/dragoman:/var/lib/other", "/var/lib/dragoman"},
		{"XDG_STATE_HOME=/x HOME=/home/a", "/x/dragoman"},
		{"XDG_STATE_HOME=relative HOME=/home/a TMPDIR=/t", "/home/a/.local/state/dragoman"},
		{"HOME=/home/a", "/home/a/.local/state/dragoman"},
		{"HOME=/ TMPDIR=/t", "/t/" + mine},
		{"HOME=/nonexistent", "/tmp/" + mine},
		{"TMPDIR=/t", "/t/" + mine},
		{"", "/tmp/" + mine},
	} {
		s, err := Of("/etc/dragoman/pipeline.yaml", env(strings.Fields(c.env)...))
		must(t, err)
		if dir, base := filepath.Split(s.Path()); filepath.Clean(dir) != c.want || !strings.HasPrefix(base, name) || len(base) != len(name)+12 {
			t.Errorf("%s: %s, want it in %s", c.env, s.Path(), c.want)
		}
	}
	folder := func(file string) string {
		s, err := Of(file, env("HOME=/h"))
		must(t, err)
		return filepath.Base(s.Path())
	}
	if folder("/a/pipeline.yaml") == folder("/b/pipeline.yaml") {
		t.Error("two files share a folder")
	}
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	must(t, err)
	if folder("p.yaml") != folder(filepath.Join(here, "x", "..", "p.yaml")) {
		t.Error("a file has two folders")
	}
	if got := folder("/a/" + strings.Repeat("ü \n/", 1) + strings.Repeat("é", 200)); len(got) > 100 || strings.Trim(got, "_-0123456789abcdef") != "" {
		t.Errorf("an odd name gives %q", got)
	}
}

func TestHistoryKeepsTheLastFiveThatServed(t *testing.T) {
	s := newFolder(t)
	if _, err := s.Latest(); !errors.Is(err, ErrNothingOlder) {
		t.Errorf("at first: %v", err)
	}
	for i := range 8 {
		must(t, s.Served([]byte(fmt.Sprint("content ", i)), at(i)))
	}
	must(t, s.Served([]byte("content 7"), at(100))) // only its time changes
	// As after a restart: nothing but the disk is known.
	s = stateIn(t, filepath.Dir(s.Path()))
	k, err := s.Latest()
	must(t, err)
	if string(k.Content) != "content 7" || !k.At.Equal(at(100)) || k.Hash != Hash([]byte("content 7")) {
		t.Errorf("the latest is %s %v", k.Content, k.At)
	}
	var got []string
	for err == nil {
		got = append(got, string(k.Content))
		k, err = s.Before(k.Hash)
	}
	if want := "content 7, content 6, content 5, content 4, content 3"; strings.Join(got, ", ") != want || !errors.Is(err, ErrNothingOlder) {
		t.Errorf("%v, then %v", got, err)
	}
	if files, _ := os.ReadDir(s.Path()); len(files) != 5 {
		t.Errorf("%d files", len(files))
	}
}

func TestEachStepBackGoesOneFurther(t *testing.T) {
	s := newFolder(t)
	for i, c := range []string{"a", "b", "c", "d"} {
		must(t, s.Served([]byte(c), at(i)))
	}
	walk := func(from string, begin, steps int) (got string) {
		for i := range steps {
			from = back(t, s, from, at(begin+i))
			got += from + " "
		}
		return strings.TrimSpace(got)
	}
	if got := walk("d", 10, 4); got != "c b a nothing" {
		t.Errorf("from d: %s", got)
	}
	// What is loaded from the file begins anew. Back from it is what served right
	// before it, not what had been fled from.
	s = newFolder(t)
	for i, c := range []string{"a", "b", "c", "bad"} {
		must(t, s.Served([]byte(c), at(i)))
	}
	if got := walk("bad", 10, 2); got != "c b" {
		t.Errorf("from bad: %s", got)
	}
	must(t, s.Served([]byte("mended"), at(20)))
	if got := walk("mended", 30, 5); got != "b c bad a nothing" {
		t.Errorf("from mended: %s", got)
	}
	// The same file again, on which the walk had begun.
	must(t, s.Served([]byte("mended"), at(40)))
	if got := walk("mended", 50, 1); got != "a" {
		t.Errorf("from mended again: %s", got)
	}
	// The file was made what was gone back to, and loaded: that begins anew too.
	must(t, s.Served([]byte("a"), at(60)))
	if got := walk("a", 70, 1); got != "mended" {
		t.Errorf("from a: %s", got)
	}
}

func TestAStepBackThatFailsCanBeLeftOut(t *testing.T) {
	s := newFolder(t)
	for i, c := range []string{"a", "broken", "b", "c"} {
		must(t, s.Served([]byte(c), at(i)))
	}
	if got := back(t, s, "c", at(10)); got != "b" {
		t.Fatal(got)
	}
	k, err := s.Before(Hash([]byte("b")))
	must(t, err)
	if string(k.Content) != "broken" {
		t.Fatal(string(k.Content))
	}
	if got := back(t, s, "broken", at(11)); got != "a" {
		t.Errorf("after broken: %s", got)
	}
}

func TestBackFromWhatIsNotKeptIsTheLatest(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("a"), at(1)))
	if got := back(t, s, "served, but could not be noted", at(2)); got != "a" {
		t.Error(got)
	}
}

// A model in memory: what served, latest first, and what this walk has visited.
func TestAWalkBackVisitsEveryContentOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		s := stateIn(t, dir)
		var order []string // latest first
		visited := map[string]bool{}
		serving := ""
		top := func(c string) {
			order = slices.DeleteFunc(order, func(o string) bool { return o == c })
			order = slices.Insert(order, 0, c)
			order = order[:min(len(order), most)]
			serving = c
		}
		for i := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			// The clock may stand still, or be set back.
			now := at(rapid.IntRange(0, 3).Draw(rt, "clock"))
			if i == 0 || rapid.Bool().Draw(rt, "load") {
				c := rapid.SampledFrom(strings.Split("abcdefg", "")).Draw(rt, "content")
				must(t, s.Served([]byte(c), now))
				top(c)
				visited = map[string]bool{c: true}
				continue
			}
			want := "nothing"
			for _, o := range order {
				if !visited[o] {
					want = o
					break
				}
			}
			if got := back(t, s, serving, now); got != want {
				rt.Fatalf("step %d: back from %s to %s, want %s", i, serving, got, want)
			}
			if want != "nothing" {
				top(want)
				visited[want] = true
			}
		}
	})
}

func TestHistoryIsForThisUserAlone(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("key: literal"), at(1)))
	withdraw, err := s.Announce(Address{PID: 1, Started: at(1)})
	must(t, err)
	defer withdraw()
	files := 0
	must(t, filepath.WalkDir(filepath.Dir(s.Path()), func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	}))
	if files != 2 {
		t.Errorf("%d files", files)
	}
}

func TestWhatOthersOwnOrMayWriteIsRefused(t *testing.T) {
	root := os.Geteuid() == 0
	for name, c := range map[string]struct {
		spoil func(s Folder) error
		want  string
	}{
		"a folder that others may write": {func(s Folder) error { return os.Chmod(s.Path(), 0o720) }, "may be written by other users (mode 0720)"},
		"a base that others may write":   {func(s Folder) error { return os.Chmod(s.base, 0o702) }, "may be written by other users (mode 0702)"},
		"a file that others may write": {func(s Folder) error {
			files, _ := filepath.Glob(filepath.Join(s.Path(), "*"))
			for _, f := range files {
				if err := os.Chmod(f, 0o620); err != nil {
					return err
				}
			}
			return nil
		}, "may be written by other users (mode 0620)"},
		"a folder of another user": {func(s Folder) error { return os.Chown(s.Path(), 4242, -1) }, "belongs to user 4242"},
		"a base of another user":   {func(s Folder) error { return os.Chown(s.base, 4242, -1) }, "belongs to user 4242"},
		"a link of another user": {func(s Folder) error {
			if err := os.Rename(s.base, s.base+".real"); err != nil {
				return err
			}
			if err := os.Symlink(s.base+".real", s.base); err != nil {
				return err
			}
			return os.Lchown(s.base, 4242, -1)
		}, "is a symbolic link of user 4242"},
	} {
		t.Run(name, func(t *testing.T) {
			if !root && strings.HasSuffix(name, "of another user") {
				t.Skip("only root can give files away")
			}
			s := newFolder(t)
			must(t, s.Served([]byte("a"), at(1)))
			withdraw, err := s.Announce(Address{PID: 1, Started: at(1)})
			must(t, err)
			defer withdraw()
			must(t, c.spoil(s))
			check := func(what string, err error) {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.base) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err = s.Latest()
			check("Latest", err)
			_, err = s.Find()
			check("Find", err)
			if !strings.HasPrefix(name, "a file") {
				check("Served", s.Served([]byte("b"), at(2)))
				_, err = s.Announce(Address{PID: 1, Started: at(2)})
				check("Announce", err)
			}
		})
	}
}

func TestALinkOfOnesOwnIsFollowed(t *testing.T) {
	s := newFolder(t)
	must(t, os.Symlink(t.TempDir(), s.base))
	must(t, os.Chmod(s.base, 0o755))
	must(t, s.Served([]byte("a"), at(1)))
	if k, err := s.Latest(); err != nil || string(k.Content) != "a" {
		t.Error(k, err)
	}
}

func TestHistoryThatCannotBeWrittenSaysWhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	s := stateIn(t, file)
	if err := s.Served([]byte("a"), at(1)); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "XDG_STATE_HOME") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Announce(Address{PID: 1, Started: at(1)}); err == nil {
		t.Error("announced nowhere")
	}
	if _, err := s.Latest(); err == nil || errors.Is(err, ErrNothingOlder) {
		t.Errorf("got %v", err)
	}
}

func TestAContentChangedByHandIsNotServedAsWhatServed(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("a"), at(1)))
	must(t, s.Served([]byte("b"), at(2)))
	files, _ := filepath.Glob(filepath.Join(s.Path(), "*"))
	write(t, files[0], "edited")
	if k, err := s.Before(Hash([]byte("b"))); err == nil || !strings.Contains(err.Error(), files[0]) || !strings.Contains(err.Error(), "was changed since it served") {
		t.Errorf("got %s, %v", k.Content, err)
	}
	// When it serves again, it is kept as it should be.
	must(t, s.Served([]byte("a"), at(3)))
	if k, err := s.Latest(); err != nil || string(k.Content) != "a" {
		t.Error(string(k.Content), err)
	}
	must(t, os.WriteFile(filepath.Join(s.Path(), filepath.Base(entryNamed(t, s))), make([]byte, config.MaxFile+1), 0o644))
	if _, err := s.Latest(); err == nil || !strings.Contains(err.Error(), "is no file that Dragoman wrote") {
		t.Errorf("a huge file: %v", err)
	}
}

// entryNamed is the name of the latest file.
func entryNamed(t *testing.T, s Folder) string {
	root, err := s.open(false)
	must(t, err)
	defer root.Close()
	all, err := list(root)
	must(t, err)
	return all[0].String()
}

func TestHistoryLeavesFilesOfOthersAlone(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("a"), at(1)))
	others := []string{"notes.txt", "20261123T000001Z-0123456789abcdef.yaml", "x.yaml", "20261123T000001.000000000Z-0123456789ABCDEF.yaml"}
	for _, name := range others {
		write(t, filepath.Join(s.Path(), name), "x")
	}
	old, young := filepath.Join(s.Path(), unfinished+"OLD"), filepath.Join(s.Path(), unfinished+"YOUNG")
	write(t, old, "half")
	write(t, young, "half")
	must(t, os.Chtimes(old, at(0), at(0)))
	for i := range 7 {
		must(t, s.Served([]byte(fmt.Sprint(i)), at(i)))
	}
	for _, name := range append(others, unfinished+"YOUNG") {
		if _, err := os.Lstat(filepath.Join(s.Path(), name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a dead writer has left: %v", err)
	}
}

// child runs the test named in a process of its own, with the folder of s.
func child(t *testing.T, s Folder, test string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), "DRAGOMAN_TEST_STATE="+s.base)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// asChild returns the state of the process that started this one, or skips.
func asChild(t *testing.T) Folder {
	dir, ok := os.LookupEnv("DRAGOMAN_TEST_STATE")
	if !ok {
		t.Skip("another test starts this one in a process of its own")
	}
	return stateIn(t, dir)
}

func numbered(n int) []byte { return []byte(strings.Repeat(fmt.Sprintln("line of", n), 2000)) }

func TestChildServesUntilItIsKilled(t *testing.T) {
	s := asChild(t)
	n := 0
	if k, err := s.Latest(); err == nil {
		fmt.Sscanf(string(k.Content), "line of %d", &n)
	}
	for {
		n++
		must(t, s.Served(numbered(n), at(n)))
		fmt.Println(n)
	}
}

func TestAWriterKilledAtAnyMomentLeavesTheOldOrTheNew(t *testing.T) {
	s := newFolder(t)
	last := 0
	for range property.Rounds(30, 10) {
		cmd, lines := child(t, s, "TestChildServesUntilItIsKilled")
		for range 1 + rand.IntN(12) {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			last, _ = strconv.Atoi(lines.Text())
		}
		for range rand.IntN(2000) { // anywhere in the next
			_ = Hash([]byte("some microseconds"))
		}
		must(t, cmd.Process.Kill())
		for lines.Scan() { // what it had said before
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				last = n
			}
		}
		cmd.Wait()

		k, err := s.Latest()
		must(t, err)
		newest := last
		if string(k.Content) != string(numbered(last)) {
			newest++ // it was noted, and the child had not said so
		}
		for i := range min(most, newest) {
			if want := string(numbered(newest - i)); string(k.Content) != want {
				t.Fatalf("killed after %d: the content %d back is %.20q", last, i, k.Content)
			}
			if k, err = s.Before(k.Hash); err != nil && !errors.Is(err, ErrNothingOlder) {
				t.Fatal(err)
			}
		}
		if err == nil {
			t.Fatalf("killed after %d: more than five", last)
		}
	}
}

func TestAReaderSeesTheOldOrTheNewWhileItIsWritten(t *testing.T) {
	s := newFolder(t)
	cmd, lines := child(t, s, "TestChildServesUntilItIsKilled")
	if !lines.Scan() {
		t.Fatal("the child ended by itself")
	}
	go func() {
		for lines.Scan() {
		}
	}()
	seen, distinct := 0, 0
	for began := time.Now(); distinct < 50; {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("saw %d states in 30 s", distinct)
		}
		k, err := s.Latest()
		must(t, err)
		var n int
		fmt.Sscanf(string(k.Content), "line of %d", &n)
		if n < seen || string(k.Content) != string(numbered(n)) {
			t.Fatalf("after %d came %.20q", seen, k.Content)
		}
		if n > seen {
			distinct++
		}
		seen = n
	}
	must(t, cmd.Process.Kill())
}

func TestAReaderFindsAContentThatMoves(t *testing.T) {
	s := newFolder(t)
	must(t, s.Served([]byte("a"), at(1)))
	stop, moves := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ { // every time it has another name
			select {
			case <-stop:
				moves <- n
				return
			default:
			}
			if err := s.Served([]byte("a"), at(1)); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 2000 {
		if k, err := s.Latest(); err != nil || string(k.Content) != "a" {
			t.Errorf("found %q, %v", k.Content, err)
			break
		}
	}
	close(stop)
	if n := <-moves; n < 10 {
		t.Errorf("it moved %d times", n)
	}
}

func TestChildAnnouncesItself(t *testing.T) {
	s := asChild(t)
	_, err := s.Announce(Address{Admin: "http://127.0.0.1:1", PID: os.Getpid(), Started: at(50)})
	must(t, err)
	fmt.Println("announced")
	select {} // until it is killed
}

func TestAKilledGatewayIsToldApart(t *testing.T) {
	s := newFolder(t)
	var none *NotRunning
	if _, err := s.Find(); !errors.As(err, &none) || none.Last != nil || !strings.Contains(err.Error(), s.Path()) {
		t.Errorf("at first: %v", err)
	}
	cmd, lines := child(t, s, "TestChildAnnouncesItself")
	if !lines.Scan() || lines.Text() != "announced" {
		t.Fatal(lines.Text())
	}
	want := Address{Admin: "http://127.0.0.1:1", PID: cmd.Process.Pid, Started: at(50)}
	if got, err := s.Find(); err != nil || got != want {
		t.Errorf("found %v, %v", got, err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	_, err := s.Find()
	if !errors.As(err, &none) || none.Last == nil || *none.Last != want || !strings.Contains(err.Error(), strconv.Itoa(want.PID)) {
		t.Errorf("after the kill: %v", err)
	}
	// One that began before it is found all the same, and clears up.
	withdraw, err := s.Announce(Address{PID: 7, Started: at(2)})
	must(t, err)
	if got, err := s.Find(); err != nil || got.PID != 7 {
		t.Errorf("found %v, %v", got, err)
	}
	if files, _ := os.ReadDir(s.Path()); len(files) != 1 {
		t.Errorf("%d files", len(files))
	}
	must(t, withdraw())
}

func TestOfTwoGatewaysTheLatestIsFoundAndEachWithdrawsItself(t *testing.T) {
	s := newFolder(t)
	found := func() string {
		a, err := s.Find()
		if err != nil {
			return err.Error()
		}
		return a.Admin
	}
	first, err := s.Announce(Address{Admin: "http://127.0.0.1:1", PID: 1, Started: at(1)})
	must(t, err)
	second, err := s.Announce(Address{Admin: "http://127.0.0.1:2", PID: 1, Started: at(2)}) // containers have the same process id
	must(t, err)
	third, err := s.Announce(Address{Admin: "http://127.0.0.1:3", PID: 3, Started: at(3)})
	must(t, err)
	for _, step := range []struct {
		withdraw func() error
		want     string
	}{
		{func() error { return nil }, "http://127.0.0.1:3"},
		{second, "http://127.0.0.1:3"},
		{third, "http://127.0.0.1:1"},
		{third, "http://127.0.0.1:1"},
		{first, (&NotRunning{Folder: s.Path()}).Error()},
	} {
		must(t, step.withdraw())
		if got := found(); got != step.want {
			t.Errorf("found %s, want %s", got, step.want)
		}
	}
	if files, _ := os.ReadDir(s.Path()); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}

func TestWhatIsNoAddressIsNeitherAnnouncedNorFound(t *testing.T) {
	s := newFolder(t)
	for _, a := range []Address{
		{PID: 0, Started: at(1)}, {PID: 1}, {PID: 1, Started: at(1), Admin: "file:///etc/passwd"},
		{PID: 1, Started: at(1), Admin: "http://"}, {PID: 1, Started: at(1), Admin: "http://user:pass@host"},
	} {
		if _, err := s.Announce(a); err == nil {
			t.Errorf("announced %v", a)
		}
	}
	must(t, s.Served([]byte("a"), at(1)))
	must(t, os.WriteFile(filepath.Join(s.Path(), "gateway-1-X.json"), nil, 0o644))
	var none *NotRunning
	if _, err := s.Find(); !errors.As(err, &none) || none.Last != nil {
		t.Errorf("found %v", err)
	}
}

func FuzzTheNameOfAContent(f *testing.F) {
	f.Add("20261123T214008.000000000Z-0123456789abcdef.yaml")
	f.Add("20261123T214008.999999999Z-0123456789abcdef-back.yaml")
	f.Add("20261123T214008,000000000Z-0123456789abcdef.yaml")
	f.Add("20260230T000000.000000000Z-0123456789abcdef.yaml")
	f.Fuzz(func(t *testing.T, name string) {
		if x, ok := parseLabel(name); ok && (x.String() != name || filepath.Base(name) != name || x.at.Location() != time.UTC) {
			t.Errorf("%q is %v", name, x)
		}
	})
}

func FuzzAnAddress(f *testing.F) {
	f.Add([]byte(`{"admin":"http://127.0.0.1:9090","pid":12,"started":"2026-11-23T21:40:08Z"}`))
	f.Add([]byte(`{"admin":"","pid":1,"started":"2026-11-23T21:40:08+02:00","later":{}}`))
	f.Add([]byte(`{"admin":"http://[::1]:80/x?y","pid":-1,"started":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAddress(data)
		if err != nil {
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		again, err := parseAddress(written)
		if err != nil || again.Admin != a.Admin || again.PID != a.PID || !again.Started.Equal(a.Started) {
			t.Errorf("%q was read as %v, and then as %v, %v", data, a, again, err)
		}
	})
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
