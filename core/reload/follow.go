package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/files"
)

// Follow calls changed with the content of file whenever that is another than
// before, and named with it when a file that it names with ${file:PATH} may hold
// something else. It returns when ctx has ended and the last call has returned. Hash is
// the SHA-256 in hex of the content that is known already, as config.File has
// it: what changed between that reading and this call is reported too.
//
// Content is reported when the file has been left alone for 200 ms, so that one
// save is one report and a file that is being written is not read half way. A
// file that is empty is reported after 2 s: an editor may be about to fill it.
// Touching the file, or writing what it held before, is no change. One call of
// changed runs at a time; what changes meanwhile is reported after it, the
// newest alone. Of a file larger than a configuration may be, the content is cut
// just behind that size, where the loader complains.
//
// A file that is gone, or cannot be read, is warned of once, and is read when it
// is back. Symbolic links are followed wherever they lead next, and folders on
// the way may be replaced. Where the system tells of no changes, or loses some,
// looking at the file every 2 s finds them.
func Follow(ctx context.Context, file, hash string, log *zap.Logger, changed, named func(content []byte)) {
	f := &follower{
		file: file, hash: hash, log: log, changed: changed, named: named,
		pause: 200 * time.Millisecond, patience: 2 * time.Second, poll: 2 * time.Second,
		open:  fsnotify.NewWatcher,
		names: func(content []byte) []string { return config.Named(content, file, os.LookupEnv) },
	}
	f.run(ctx)
}

// A follower belongs to the goroutine that runs it.
type follower struct {
	file    string
	hash    string   // of what was reported last
	others  []string // the files that the content names
	held    string   // what these held when something was reported last, as a sum
	log     *zap.Logger
	changed func([]byte)
	named   func([]byte)

	pause    time.Duration // without a change before the file is read
	patience time.Duration // with a file that is empty, or cannot be read
	poll     time.Duration
	open     func() (*fsnotify.Watcher, error)
	names    func(content []byte) []string // nil: none
	// told, if not nil, hears what the follower does: "heard" a change, "looked"
	// at the file. Tests wait for it.
	told func(what string)

	watcher *fsnotify.Watcher // nil where there is none
	deaf    bool              // and a warning has said so
	steps   []string          // the names that decide what the files are
	seen    sight             // the files when one was last seen to change
	fresh   bool              // it was read so soon after a change that the next may have the same time
	idle    time.Time         // since when there has been nothing to report: empty, gone, unreadable
	warned  string            // what the last warning said of it
}

func (f *follower) run(ctx context.Context) {
	if path, err := filepath.Abs(f.file); err == nil {
		f.file = path
	}
	var (
		events chan fsnotify.Event
		broken chan error
	)
	watcher, err := f.open()
	if err != nil {
		f.warnDeaf(err)
	} else {
		defer watcher.Close()
		f.watcher, events, broken = watcher, watcher.Events, watcher.Errors
	}
	poll := time.NewTicker(f.poll)
	defer poll.Stop()

	var reported chan struct{} // nil unless changed is being called
	defer func() {
		if reported != nil {
			<-reported
		}
	}()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	f.rewatch()
	for {
		due := quiet.C
		if reported != nil {
			due = nil // it stays due until the call has returned
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if f.concerns(e) {
				f.seen = f.stat()
				quiet.Reset(f.pause)
				f.tell("heard")
			}
		case <-broken: // events may be lost
			f.seen = f.stat()
			quiet.Reset(f.pause)
		case <-poll.C:
			moved := f.rewatch()
			if now := f.stat(); moved || f.fresh || !same(now, f.seen) {
				f.seen = now
				quiet.Reset(f.pause)
			}
		case <-due:
			content, report, again := f.look()
			if again > 0 {
				quiet.Reset(again)
			}
			if content != nil {
				reported = make(chan struct{})
				go func() {
					defer close(reported)
					report(content)
				}()
			}
			f.tell("looked")
		case <-reported:
			reported = nil
		}
	}
}

// look returns what is to be reported, not nil, and to whom, or when to look again,
// if that is not for an event to say.
func (f *follower) look() (content []byte, report func([]byte), again time.Duration) {
	f.rewatch() // before it is read: what changes from here on is heard
	before := f.stat()
	if !same(before, f.seen) {
		f.seen = before
		return nil, nil, f.pause
	}
	content, err := read(f.file)
	if now := f.stat(); !same(now, before) {
		f.seen = now
		return nil, nil, f.pause
	}
	f.fresh = before.newer(f.poll)

	if err == nil && f.names != nil {
		if named := f.names(content); !slices.Equal(named, f.others) {
			f.others = named
			f.rewatch()
			f.seen = f.stat()
			return nil, nil, f.pause
		}
	}
	held, missing := f.holds()
	if err == nil && len(content) > 0 && !missing {
		f.idle = time.Time{}
	} else {
		if f.idle.IsZero() {
			f.idle = time.Now()
		}
		if rest := f.patience - time.Since(f.idle); rest > 0 {
			return nil, nil, rest
		}
	}
	if err != nil {
		if why := reason(err); why != f.warned {
			f.warned = why
			f.log.Warn("the configuration cannot be read, what was loaded goes on", zap.String("file", f.file), zap.String("reason", why))
		}
		return nil, nil, 0
	}
	if f.warned != "" {
		f.warned = ""
		f.log.Info("the configuration can be read again", zap.String("file", f.file))
	}
	sum := sha256.Sum256(content)
	switch hash := hex.EncodeToString(sum[:]); {
	case hash != f.hash:
		f.hash, f.held = hash, held
		return content, f.changed, 0
	case held != f.held:
		f.held = held
		return content, f.named, 0
	}
	return nil, nil, 0
}

// holds returns a sum of what the named files hold, and says whether one of them is
// empty or cannot be read: it may be about to be filled.
func (f *follower) holds() (sum string, missing bool) {
	if len(f.others) == 0 {
		return "", false
	}
	h := sha256.New()
	for _, name := range f.others {
		held, err := files.Head(name, config.MaxNamed+1)
		if missing = missing || err != nil || len(held) == 0; err != nil {
			held = []byte("\x00" + reason(err))
		}
		one := sha256.Sum256(held)
		h.Write(one[:])
	}
	return hex.EncodeToString(h.Sum(nil)), missing
}

// read returns what the file holds, of one that is longer than a configuration may
// be just more than that.
func read(name string) ([]byte, error) { return files.Head(name, config.MaxFile+1) }

func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read it"
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// A sight is the file, and then those that it names, as they are seen without being
// read; nil stands for one that is not there.
type sight []fs.FileInfo

func (f *follower) stat() sight {
	s := make(sight, 0, 1+len(f.others))
	for _, name := range append([]string{f.file}, f.others...) {
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		s = append(s, info)
	}
	return s
}

// newer says whether one of them changed less than so long ago.
func (s sight) newer(than time.Duration) bool {
	return slices.ContainsFunc(s, func(info fs.FileInfo) bool { return info != nil && time.Since(info.ModTime()) < than })
}

// same says whether nothing tells two sights apart.
func same(a, b sight) bool { return slices.EqualFunc(a, b, unchanged) }

// unchanged says whether nothing tells two sights of a file apart. A mode counts: it
// may have become readable.
func unchanged(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// rewatch watches the folders in which the way to the file is decided now, and
// says whether that is another way than before.
func (f *follower) rewatch() bool {
	now := steps(f.file)
	for _, name := range f.others {
		now = append(now, steps(name)...)
	}
	moved := !slices.Equal(now, f.steps)
	f.steps = now
	if f.watcher == nil {
		return moved
	}
	var folders []string
	for _, step := range now {
		folders = append(folders, filepath.Dir(step))
	}
	// First those not wanted: a folder that was renamed is known to the watcher
	// by its old name, and would keep it.
	for _, folder := range f.watcher.WatchList() {
		if !slices.Contains(folders, folder) {
			f.watcher.Remove(folder) // fails when the folder is gone, which is as good
		}
	}
	for i, folder := range folders {
		// Adding again one that is watched costs little, and mends a watch that
		// was lost with a mount or a folder of the same name.
		err := f.watcher.Add(folder)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// Where nothing can be read there is nothing to hear of, such as a credential that a
		// comment names and that the service does not have.
		if _, unseen := os.Stat(now[i]); !errors.Is(unseen, fs.ErrPermission) {
			f.warnDeaf(err)
		}
	}
	return moved
}

func (f *follower) warnDeaf(err error) {
	if f.deaf {
		return
	}
	f.deaf = true
	f.log.Warn("the system does not tell when the configuration changes, so it is looked at from time to time",
		zap.String("file", f.file), zap.Duration("every", f.poll), zap.Error(err))
}

// steps returns the names that decide what the absolute path file is: every
// symbolic link on the way, and then the file, or what is missing first. The
// folders in them are real ones, free of links.
func steps(file string) []string {
	var (
		found []string
		at    = "/"
		rest  = strings.Split(file, "/")
		links = 0
	)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil || len(rest) == 0 && info.Mode()&fs.ModeSymlink == 0:
			return append(found, next)
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		found = append(found, next)
		links++
		to, err := os.Readlink(next)
		if err != nil || links > maxLinks {
			return found
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return found
}

// maxLinks is how many symbolic links Linux follows on the way to one file.
const maxLinks = 40

// concerns says whether e may be about the file: about a step on the way to it,
// or about a folder that holds one.
func (f *follower) concerns(e fsnotify.Event) bool {
	name := filepath.Clean(e.Name) // in the root folder it begins with two slashes
	return slices.ContainsFunc(f.steps, func(step string) bool {
		return name == step || name == filepath.Dir(step)
	})
}

func (f *follower) tell(what string) {
	if f.told != nil {
		f.told(what)
	}
}
