// Package state is the folder in which a gateway keeps what must outlive its process: the
// contents of pipeline.yaml that served, what its parts remember, and the address at which the
// gateway that runs can be reached. It knows nothing of what a configuration says.
package state

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dragoman-mt/dragoman/core/config"
)

// A Folder is that of one configuration file in which a gateway keeps what
// must outlive it: the contents that served, and where the gateway is that runs.
// Everything in it is for this user alone. A Folder holds nothing open, and is
// safe for concurrent use, by several processes too: whoever reads sees what was
// there before a change or after it, whenever the writer dies.
//
// The contents are plain files, named by the time at which they served last, so
// that a person can list, compare and copy them.
type Folder struct {
	base string // for all configuration files of this user
	name string // for this one
	was  string // what base was in older versions, if that was another
}

// StateOf names the folder of the configuration file, without looking at the
// disk. It is below $STATE_DIRECTORY, as systemd sets it, else below dragoman in
// $XDG_STATE_HOME or ~/.local/state, else below dragoman-state-UID in the folder
// for temporary files. The file is told apart by its absolute path, in which
// symbolic links stay links.
func Of(file string, lookup func(string) (string, bool)) (Folder, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return Folder{}, fmt.Errorf("finding the folder of %s: %w", file, err)
	}
	readable := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, filepath.Base(path))
	if len(readable) > 64 {
		readable = readable[:64]
	}
	base, was := stateBase(lookup)
	return Folder{base: base, name: readable + "-" + Hash([]byte(path))[:12], was: was}, nil
}

// older is the state where an older version kept it, when that is elsewhere.
func (s Folder) older() (Folder, bool) { return Folder{base: s.was, name: s.name}, s.was != "" }

func stateBase(lookup func(string) (string, bool)) (base, was string) {
	// Paths that are not absolute are to be ignored, says the XDG specification.
	folder := func(name string) (string, bool) {
		path, _ := lookup(name)
		return path, filepath.IsAbs(path)
	}
	if list, ok := folder("STATE_DIRECTORY"); ok {
		first, _, _ := strings.Cut(list, ":") // systemd may name several
		return filepath.Clean(first), ""
	}
	if path, ok := folder("XDG_STATE_HOME"); ok {
		return filepath.Join(path, "dragoman"), ""
	}
	// Users of services and containers often have a home that is none.
	if home, ok := folder("HOME"); ok && home != "/" && home != "/nonexistent" {
		return filepath.Join(home, ".local", "state", "dragoman"), ""
	}
	temporary, ok := folder("TMPDIR")
	if !ok {
		temporary = "/tmp"
	}
	// Folders called dragoman-UID-... hold sockets of plugins, and go when their
	// process has gone. Gateways of older versions remove whatever is called so.
	return filepath.Join(temporary, fmt.Sprintf("dragoman-state-%d", os.Getuid())),
		filepath.Join(temporary, fmt.Sprintf("dragoman-%d-state", os.Getuid()))
}

// Folder is where all this is, for messages.
func (s Folder) Path() string { return filepath.Join(s.base, s.name) }

// A Kept is the content of a configuration that served.
type Kept struct {
	Content []byte    // as the file had it, references unexpanded
	Hash    string    // its SHA-256 in hex, as config.File has it
	At      time.Time // when it served last
}

// ErrNothingOlder is returned, wrapped, when there is no content to go back to.
var ErrNothingOlder = errors.New("no older configuration that served is kept")

// most is how many contents are kept, the one that serves among them.
const most = 5

// Latest returns the content that served last. The error is ErrNothingOlder when
// none did.
func (s Folder) Latest() (Kept, error) {
	return s.pick(func([]label) int { return 0 })
}

// Before returns the content to go back to from the one with that hash, which
// serves now, or was found and could not be loaded. Steps back go through what
// served, latest first: from what was gone back to, to what served before all
// that this walk has left behind; from what was loaded from the file, to what
// served right before it. From a content that is not kept, it is the latest. The
// error is ErrNothingOlder when the walk is at its end.
func (s Folder) Before(hash string) (Kept, error) {
	return s.pick(func(all []label) int { return stepBack(all, hash) })
}

// stepBack is the place in all of what to go back to from the content with that
// hash.
func stepBack(all []label, hash string) int {
	at := slices.IndexFunc(all, func(x label) bool { return x.is(hash) })
	if at < 0 {
		return 0
	}
	// What was gone back to stands on top, latest first, and under it the content
	// that the walk began with.
	walked := 0
	for walked < len(all) && all[walked].back {
		walked++
	}
	return max(at, walked) + 1
}

// pick returns the content of which choose gives the place.
func (s Folder) pick(choose func([]label) int) (Kept, error) {
	root, err := s.reading()
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, fmt.Errorf("%w in %s", ErrNothingOlder, s.Path())
	}
	if err != nil {
		return Kept{}, err
	}
	defer root.Close()
	for try := 0; ; try++ {
		all, err := list(root)
		if err != nil {
			return Kept{}, err
		}
		i := choose(all)
		if i >= len(all) {
			return Kept{}, fmt.Errorf("%w in %s", ErrNothingOlder, s.Path())
		}
		content, err := all[i].read(root)
		if errors.Is(err, fs.ErrNotExist) && try < 10 {
			continue // another process has moved it
		}
		if err != nil {
			return Kept{}, err
		}
		return Kept{Content: content, Hash: Hash(content), At: all[i].at}, nil
	}
}

// place gives content the name of x: by moving the file that has it, else by a
// new one.
func (x label) place(root *os.Root, content []byte, all []label) error {
	if i := slices.IndexFunc(all, func(o label) bool { return o.hash == x.hash }); i >= 0 {
		if _, err := all[i].read(root); err == nil && root.Rename(all[i].String(), x.String()) == nil {
			return persist(root)
		}
	}
	file, name, err := create(root)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = cmp.Or(err, file.Sync(), file.Close())
	if err == nil {
		err = root.Rename(name, x.String())
	}
	if err != nil {
		root.Remove(name)
		return err
	}
	return persist(root)
}

// unfinished begins the names of files that nobody reads yet.
const unfinished = ".new-"

func create(root *os.Root) (file *os.File, name string, err error) {
	name = unfinished + rand.Text()
	file, err = root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return file, name, err
}

// persist makes what was renamed in the folder outlive the machine.
func persist(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// tidy removes what is too old, and what writers that died have left.
func tidy(root *os.Root) error {
	names, err := names(root)
	if err != nil {
		return err
	}
	// Of the same reading: what has been moved since stays under its new name.
	keep := kept(names)
	for _, name := range names {
		x, ok := parseLabel(name)
		drop := ok && !slices.Contains(keep, x)
		if strings.HasPrefix(name, unfinished) {
			info, err := root.Lstat(name)
			drop = err == nil && time.Since(info.ModTime()) > time.Minute
		}
		if drop {
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// A label is the name of a file that holds a content that served:
// 20261123T214008.000000000Z-0123456789abcdef.yaml, with -back before .yaml for
// one that was gone back to.
type label struct {
	at   time.Time
	hash string // its first digits
	back bool
}

const (
	stamp     = "20060102T150405.000000000Z"
	shortHash = 16 // hex digits, far more than five contents need
	backMark  = "-back"
	suffix    = ".yaml"
)

func (x label) String() string {
	name := x.at.Format(stamp) + "-" + x.hash
	if x.back {
		name += backMark
	}
	return name + suffix
}

// parseLabel reads a name; what is none, exactly, is somebody else's file.
func parseLabel(name string) (label, bool) {
	rest, ok := strings.CutSuffix(name, suffix)
	rest, back := strings.CutSuffix(rest, backMark)
	when, hash, cut := strings.Cut(rest, "-")
	if !ok || !cut || len(hash) != shortHash || strings.Trim(hash, "0123456789abcdef") != "" {
		return label{}, false
	}
	at, err := time.Parse(stamp, when)
	x := label{at: at, hash: hash, back: back}
	return x, err == nil && x.String() == name
}

func (x label) is(hash string) bool { return strings.HasPrefix(hash, x.hash) }

// read returns the content, if it is the one that was noted.
func (x label) read(root *os.Root) ([]byte, error) {
	content, err := readOwn(root, x.String(), config.MaxFile)
	if err != nil {
		return nil, err
	}
	if !x.is(Hash(content)) {
		return nil, fmt.Errorf("%s was changed since it served: load it with --config, or remove it", filepath.Join(root.Name(), x.String()))
	}
	return content, nil
}

// list returns what is kept, latest first, each content once. What another process moves
// while a folder is read may be told under neither of its names, so it is read until two
// readings hold the same contents.
func list(root *os.Root) ([]label, error) {
	all, err := listOnce(root)
	for try := 0; err == nil && try < 10; try++ {
		before := all
		if all, err = listOnce(root); slices.EqualFunc(before, all, func(a, b label) bool { return a.hash == b.hash }) {
			break
		}
	}
	return all, err
}

func listOnce(root *os.Root) ([]label, error) {
	names, err := names(root)
	return kept(names), err
}

// kept is what of a folder with these names is kept, as list returns it.
func kept(names []string) (all []label) {
	for _, name := range names {
		if x, ok := parseLabel(name); ok {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b label) int { return cmp.Compare(b.String(), a.String()) })
	return once(all)
}

// An Address says where a running gateway is.
type Address struct {
	Admin   string    `json:"admin"`            // URL of its admin door over TCP; empty when that is off
	Socket  string    `json:"socket,omitempty"` // in the folder, as Listen named it; older gateways have none
	PID     int       `json:"pid"`              // of its process
	Started time.Time `json:"started"`          // when it began to serve
}

// A NotRunning is why no gateway was found.
type NotRunning struct {
	Folder string
	// Last is that of a gateway which ended without saying so, as a kill does;
	// nil when there was none.
	Last *Address
}

func (e *NotRunning) Error() string {
	if e.Last != nil {
		return fmt.Sprintf("no gateway runs with this configuration file; one with process id %d, started %s, has ended without saying so (%s)",
			e.Last.PID, e.Last.Started.Format(time.RFC3339), e.Folder)
	}
	return fmt.Sprintf("no gateway of this user runs with this configuration file (nothing in %s)", e.Folder)
}

// Announce says to this user's other programs where this gateway is, until
// withdraw is called or the process ends, by kill -9 too. Of several gateways
// with the same file, the one started last is found, and when it ends, the one
// before.
func (s Folder) Announce(a Address) (withdraw func() error, err error) {
	data, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if _, err := parseAddress(data); err != nil {
		return nil, err
	}
	root, err := s.open(true)
	if err != nil {
		return nil, err
	}
	s.removeStale(root)
	file, name, err := create(root)
	if err != nil {
		root.Close()
		return nil, err
	}
	// The lock is the sign of life: it ends with the process, and not, as a
	// process id, with the next process that gets it. It is taken before others
	// can see the file.
	final := fmt.Sprintf("%s%d-%s%s", addressPrefix, a.PID, rand.Text()[:8], addressSuffix)
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		_, err = file.Write(append(data, '\n'))
	}
	if err == nil {
		err = root.Rename(name, final)
	}
	if err != nil {
		root.Remove(name)
		file.Close()
		root.Close()
		return nil, fmt.Errorf("saying in %s where the gateway is: %w", s.Path(), err)
	}
	return sync.OnceValue(func() error {
		err := root.Remove(final)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		file.Close()
		root.Close()
		return err
	}), nil
}

// Find returns where the gateway is that runs with this file. The error is a
// *NotRunning when there is none.
func (s Folder) Find() (Address, error) {
	at, err := s.find()
	if older, has := s.older(); has && errors.As(err, new(*NotRunning)) {
		if at, err := older.find(); err == nil {
			return at, nil
		}
	}
	return at, err
}

// Announced says whether a is found here.
func (s Folder) Announced(a Address) bool {
	root, err := s.open(false)
	if err != nil {
		return false
	}
	defer root.Close()
	names, _ := names(root)
	return slices.ContainsFunc(names, func(name string) bool {
		if !isAddress(name) {
			return false
		}
		data, err := readOwn(root, name, maxAddress)
		if err != nil {
			return false
		}
		found, err := parseAddress(data)
		if err != nil || found.PID != a.PID || !found.Started.Equal(a.Started) || found.Socket != a.Socket {
			return false
		}
		_, err = root.Lstat(a.Socket)
		return a.Socket == "" || err == nil
	})
}

func (s Folder) find() (Address, error) {
	none := &NotRunning{Folder: s.Path()}
	root, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return Address{}, none
	}
	if err != nil {
		return Address{}, err
	}
	defer root.Close()
	names, err := names(root)
	if err != nil {
		return Address{}, err
	}
	var found *Address
	for _, name := range names {
		if !isAddress(name) {
			continue
		}
		data, err := readOwn(root, name, maxAddress)
		if errors.Is(err, fs.ErrNotExist) {
			continue // withdrawn meanwhile
		}
		if err != nil {
			return Address{}, err
		}
		a, err := parseAddress(data)
		if err != nil {
			continue // cut off with the machine's power
		}
		of := &none.Last
		if alive(root, name) {
			of = &found
		}
		if *of == nil || a.Started.After((*of).Started) {
			*of = &a
		}
	}
	if found == nil {
		return Address{}, none
	}
	return *found, nil
}

const (
	addressPrefix = "gateway-"
	addressSuffix = ".json"
	maxAddress    = 4 << 10 // bytes
)

func isAddress(name string) bool {
	return strings.HasPrefix(name, addressPrefix) && strings.HasSuffix(name, addressSuffix)
}

// parseAddress reads an address. Keys that it does not know are those of a later
// version.
func parseAddress(data []byte) (Address, error) {
	var a Address
	if err := json.Unmarshal(data, &a); err != nil {
		return Address{}, fmt.Errorf("not the address of a gateway: %w", err)
	}
	if a.PID <= 0 || a.Started.IsZero() {
		return Address{}, errors.New("the address of a gateway needs its process id and the time of its start")
	}
	if a.Socket != "" && !isSocket(a.Socket) {
		return Address{}, fmt.Errorf("%q is not the name of a gateway's socket", a.Socket)
	}
	if a.Admin != "" {
		u, err := url.Parse(a.Admin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			return Address{}, fmt.Errorf("%q is not the URL of an admin door", a.Admin)
		}
	}
	return a, nil
}

// alive says whether the process lives that announced itself in this file.
func alive(root *os.Root, name string) bool {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// removeStale removes what gateways that died have left.
func (s Folder) removeStale(root *os.Root) {
	names, _ := names(root)
	for _, name := range names {
		if isAddress(name) && !alive(root, name) || isSocket(name) && s.unheard(root, name) {
			root.Remove(name)
		}
	}
}

// open returns the folder, making it if that is asked for. It refuses what
// others own or may write: they could plant a configuration, or an address to
// which an operator sends a key.
func (s Folder) open(create bool) (*os.Root, error) {
	if create {
		if err := os.MkdirAll(s.base, 0o700); err != nil {
			return nil, fmt.Errorf("making a folder for what outlives the gateway: %w; set XDG_STATE_HOME to one that this user may write", err)
		}
	}
	// systemd makes its folder a link of root's; one of another user could be
	// pointed elsewhere at any time.
	link, err := os.Lstat(s.base)
	if err != nil {
		return nil, err
	}
	if owner := uid(link); link.Mode()&fs.ModeSymlink != 0 && owner != 0 && owner != os.Geteuid() {
		return nil, fmt.Errorf("%s is a symbolic link of user %d: remove it, or set XDG_STATE_HOME to another folder", s.base, owner)
	}
	base, err := os.OpenRoot(s.base)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	if err := ours(base, s.base); err != nil {
		return nil, err
	}
	if create {
		err := base.Mkdir(s.name, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("making a folder for what outlives the gateway: %w; set XDG_STATE_HOME to one that this user may write", err)
		}
		create = err == nil
	}
	root, err := base.OpenRoot(s.name)
	if err != nil {
		return nil, err
	}
	if err := ours(root, s.Path()); err != nil {
		root.Close()
		return nil, err
	}
	if create {
		s.inherit(root)
	}
	return root, nil
}

// inherit copies what an older version kept, which stays there for a gateway of
// that version that may still run. What cannot be read is left.
func (s Folder) inherit(root *os.Root) {
	older, has := s.older()
	if !has {
		return
	}
	from, err := older.open(false)
	if err != nil {
		return
	}
	defer from.Close()
	all, _ := list(from)
	for _, x := range slices.Backward(all) {
		if content, err := x.read(from); err == nil {
			x.place(root, content, nil)
		}
	}
}

func ours(root *os.Root, path string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	if err := private(info, path); err != nil {
		return fmt.Errorf("%w; or set XDG_STATE_HOME to another folder", err)
	}
	return nil
}

// private refuses what another user owns or may write.
func private(info fs.FileInfo, path string) error {
	if owner, me := uid(info), os.Geteuid(); owner != me {
		return fmt.Errorf("%s belongs to user %d, not to user %d who runs this: run it as that user, or remove it", path, owner, me)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%s may be written by other users (mode %04o): run `chmod go-w` on it, after a look at what is in it", path, mode)
	}
	return nil
}

func uid(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// readOwn reads a file of at most limit bytes.
func readOwn(root *os.Root, name string, limit int64) ([]byte, error) {
	path := filepath.Join(root.Name(), name)
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(info, path); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file that Dragoman wrote: remove it", path)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// names returns the names of the files in the folder.
func names(root *os.Root) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// Hash is the name of a content: the SHA-256 of it, in hexadecimal.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
