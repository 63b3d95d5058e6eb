package usage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// Names in the folder.
const (
	storeName   = "usage.db"
	journalName = "journal-"
	unfinished  = ".new-"     // of files that nobody reads yet
	aside       = ".damaged-" // before the time at which a file was put aside
)

const (
	// foldEvery is how often the journal is folded into the store, and the most that a
	// machine without power loses.
	foldEvery = 5 * time.Second
	// mostJournals and mostJournalBytes bound what waits to be folded.
	mostJournals     = 200
	mostJournalBytes = 64 << 20
	// mostPending bounds the rows that wait in memory; sessions are not told apart in
	// more.
	mostPending = 50_000
)

// A disk is the folder of a book.
type disk struct {
	book   *Book
	folder string

	// folding is held by who reads or writes the store, and keeps what is in the store
	// apart from what is pending. It comes before mu, and mu before that of the book.
	folding sync.RWMutex
	unsure  batch // of a commit that failed, which may have been done all the same
	// waiting are rows of journals that others have left and that cannot be folded yet. The
	// mu of the book guards it.
	waiting map[row]Use

	// mu guards the journal. One writes for all who wait for it meanwhile.
	mu      sync.Mutex
	file    *journal   // nil when the next line begins another
	written int64      // lines of the book's added
	past    []*journal // complete, and not folded
	off     bool       // until the next fold, because it could not be written
	doubt   bool       // until one was written after that

	sessions int // how many may be folded until they are counted again

	// Of a group. Folding guards them, and the mu of the book renamed.
	lock    *os.File // says that the name under which this process counts is taken
	locked  string   // that name
	begun   bool     // what lies in the folder under no name is counted under it
	renamed *renamed // what the store is to be told of a former name

	end     context.CancelFunc
	running sync.WaitGroup
}

// A journal is one that this process writes, or has written.
type journal struct {
	*os.File // its lock says that its writer lives
	name     string
	size     int64
}

// A batch is rows that are folded at once, under a name by which it is known in the store.
type batch struct {
	name string
	rows map[row]Use
}

// Open returns the book that is kept in folder. What cannot be read or written there
// does not keep it from counting: it tells the log, and Notice. The clients whose month
// it holds are known when it returns. Shared is what it has in common with those of other
// gateways, from Join on; nil for nothing.
func Open(folder string, shared core.Shared, log *zap.Logger) *Book {
	b := New()
	b.log = log
	if shared != nil {
		b.group = newGroup(b, shared)
	}
	b.disk = &disk{book: b, folder: folder}
	b.disk.open()
	return b
}

func (d *disk) open() {
	if err := d.begin(); err != nil {
		d.say(err)
	}
	ctx, end := context.WithCancel(context.Background())
	d.end = end
	d.running.Go(func() {
		every := time.NewTicker(foldEvery)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				d.keep()
			}
		}
	})
}

// begin reads what is there, and folds what processes that died have left.
func (d *disk) begin() error {
	if d.book.group != nil {
		return d.join()
	}
	_, err := os.Stat(filepath.Join(d.folder, storeName))
	stored := err == nil
	left, err := d.journals()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case stored || len(left) > 0:
		if err := d.fold(); err != nil {
			if unread := d.read(); unread != nil {
				err = unread
			}
			d.look()
			return err
		}
		return d.read()
	}
	return nil
}

// look counts what processes that died have left where it cannot be folded, as on a disk
// that is read-only. It is for the start.
func (d *disk) look() {
	d.folding.RLock()
	defer d.folding.RUnlock()
	legacies, _ := d.left() // of what cannot be read, fold has told
	inStore := map[string]bool{}
	_ = d.view(func(tx *bolt.Tx) error {
		for _, l := range legacies {
			inStore[l.name] = isFolded(tx, l.name)
		}
		return nil
	})
	rows := map[row]Use{}
	for _, l := range legacies {
		if !inStore[l.name] {
			rows = sum(rows, l.rows)
		}
		l.file.Close()
	}
	b := d.book
	b.mu.Lock()
	defer b.mu.Unlock()
	d.waiting = rows
	now := b.now()
	for r, u := range rows {
		if strings.HasPrefix(r.day, now.UTC().Format(monthly)) {
			b.client(r.client, now).used += u.Characters
		}
	}
}

// keep folds what is pending, if anything is.
func (d *disk) keep() {
	d.book.mu.Lock()
	due := len(d.book.pending) > 0 || d.book.notice != ""
	d.book.mu.Unlock()
	if !due && d.unsure.rows == nil {
		return
	}
	d.say(d.fold())
}

// Close folds what is pending, and lets the folder go.
func (b *Book) Close() {
	d := b.disk
	if d == nil {
		return
	}
	d.end()
	d.running.Wait()
	d.keep()
	if b.group != nil {
		b.group.close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn()
	for _, j := range d.past {
		j.Close()
	}
	d.past, d.off = nil, true
	if d.lock != nil {
		d.lock.Close()
	}
}

// say tells of the first failure, and of the first success after it.
func (d *disk) say(err error) {
	d.mu.Lock()
	doubt := d.doubt
	d.mu.Unlock()
	if err == nil && doubt {
		return
	}
	b := d.book
	b.mu.Lock()
	was := b.notice
	if b.notice = ""; err != nil {
		b.notice = "usage is counted in memory, for it cannot be kept in " + d.folder + ": " + err.Error()
	}
	b.mu.Unlock()
	switch {
	case err != nil && was == "":
		b.log.Error("usage cannot be kept on disk and is counted in memory; it is tried again until it can", zap.String("folder", d.folder), zap.Error(err))
	case err == nil && was != "":
		b.log.Info("usage is kept on disk again", zap.String("folder", d.folder))
	}
}

// write returns when the lines up to that one are in the journal, or the journal cannot
// be written.
func (d *disk) write(line int64) {
	d.mu.Lock()
	if d.written >= line {
		d.mu.Unlock()
		return
	}
	b := d.book
	b.mu.Lock()
	lines, last := b.lines, b.added
	b.lines = nil
	b.mu.Unlock()
	err := d.append(lines, last)
	d.mu.Unlock()
	if err != nil {
		d.say(err)
	}
}

// append writes lines to the journal. The caller holds mu.
func (d *disk) append(lines []byte, last int64) error {
	d.written = last
	if len(lines) == 0 || d.off {
		return nil
	}
	err := d.journal()
	if err == nil {
		if _, err = d.file.Write(lines); err != nil {
			// A piece of a line is nobody's: without it the journal can be read.
			_ = d.file.Truncate(d.file.size)
		}
	}
	if err != nil {
		d.off, d.doubt = true, true
		d.turn()
		return fmt.Errorf("writing the journal: %w", err)
	}
	d.doubt = false
	d.file.size += int64(len(lines))
	return nil
}

// journal makes a journal where there is none. Others do not see it without its lock.
func (d *disk) journal() error {
	if d.file != nil {
		return nil
	}
	waiting := int64(0)
	for _, j := range d.past {
		waiting += j.size
	}
	if len(d.past) >= mostJournals || waiting >= mostJournalBytes {
		return fmt.Errorf("%d journals wait to be folded into %s, with %d MiB", len(d.past), storeName, waiting>>20)
	}
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	name := rand.Text()
	if g := d.book.group; g != nil {
		d.book.mu.Lock()
		name = g.writer + "." + name
		d.book.mu.Unlock()
	}
	file, err := os.OpenFile(filepath.Join(d.folder, unfinished+name), os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(d.folder, journalName+name))
	}
	if err != nil {
		os.Remove(file.Name())
		file.Close()
		return err
	}
	d.file = &journal{File: file, name: journalName + name}
	return nil
}

// turn ends the journal that is written; the next line begins another. The caller holds
// mu.
func (d *disk) turn() {
	if d.file != nil {
		d.past = append(d.past, d.file)
		d.file = nil
	}
}

// take ends the journal, and returns all rows that are in no store: those that it holds
// and those that are in memory alone. The clients' code points of this month come with
// them.
func (d *disk) take() (rows map[row]Use, used map[string]int64, past []*journal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.book
	b.mu.Lock()
	rows, used = b.pending, map[string]int64{}
	b.pending = map[row]Use{}
	lines, last := b.lines, b.added
	b.lines = nil
	now := b.now()
	for name := range b.clients {
		used[name] = b.client(name, now).used
	}
	b.mu.Unlock()
	_ = d.append(lines, last) // the store is told, which is as good
	d.turn()
	return rows, used, d.past
}

// stored ends the first of past, whose rows are in the store.
func (d *disk) stored(count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range d.past[:count] {
		os.Remove(filepath.Join(d.folder, j.name))
		j.Close()
	}
	d.past, d.off = append([]*journal(nil), d.past[count:]...), false
	if d.doubt {
		// A line that counts nothing tells whether there is room for others.
		_ = d.append(appendLine(nil, row{day: d.book.now().UTC().Format(time.DateOnly)}, Use{}), d.written)
	}
}

// journals lists those that are there.
func (d *disk) journals() (names []string, err error) {
	entries, err := os.ReadDir(d.folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), journalName) && !strings.Contains(e.Name(), aside) {
			names = append(names, e.Name())
		}
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), unfinished) && time.Since(info.ModTime()) > time.Minute {
			os.Remove(filepath.Join(d.folder, e.Name()))
		}
	}
	return names, nil
}

// A legacy is a journal that a process left which has ended.
type legacy struct {
	name    string
	writer  string   // under which it was counted; empty for none
	file    *os.File // locked
	rows    map[row]Use
	damaged int // lines
}

// left takes the journals of processes that have ended.
func (d *disk) left() (all []legacy, err error) {
	names, err := d.journals()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	own := map[string]bool{}
	if d.file != nil {
		own[d.file.name] = true
	}
	for _, j := range d.past {
		own[j.name] = true
	}
	d.mu.Unlock()
	for _, name := range names {
		if own[name] {
			continue
		}
		f, err := os.Open(filepath.Join(d.folder, name))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return all, err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			f.Close() // its writer lives
			continue
		}
		l := legacy{name: name, file: f, rows: map[row]Use{}}
		if writer, _, named := strings.Cut(strings.TrimPrefix(name, journalName), "."); named {
			l.writer = writer
		}
		l.damaged, err = readJournal(f, func(r row, u Use) { l.rows[r] = l.rows[r].Plus(u) })
		all = append(all, l)
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

// settle ends a legacy that is in the store. What could not be read of it stays.
func (d *disk) settle(l legacy) {
	path := filepath.Join(d.folder, l.name)
	if l.damaged == 0 {
		os.Remove(path)
		return
	}
	kept := path + aside + d.book.now().UTC().Format("20060102T150405")
	os.Rename(path, kept)
	d.book.log.Error("a journal of usage has lines that are not what was written; the others are counted, and the file is kept", zap.String("file", kept), zap.Int("lines", l.damaged))
}

func sum(all ...map[row]Use) map[row]Use {
	total := map[row]Use{}
	for _, rows := range all {
		for r, u := range rows {
			if len(total) >= mostPending {
				r.session = ""
			}
			total[r] = total[r].Plus(u)
		}
	}
	return total
}
