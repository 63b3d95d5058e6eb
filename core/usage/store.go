package usage

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"
)

// The buckets of a store. The parts of a key have a NUL between them.
var (
	days     = []byte("days")     // day, client, door: a Use
	months   = []byte("months")   // month, client: code points
	sessions = []byte("sessions") // client, session: a kept
	folded   = []byte("folded")   // names of journals and batches that are in the store
)

// mostDays is how long days are kept.
const mostDays = 800

// lockWait is how long another process may hold the store, which takes milliseconds.
const lockWait = 2 * time.Second

// A kept is a session in the store.
type kept struct {
	Use  Use       `json:"use"`
	Last time.Time `json:"last"`
}

// errDamaged is wrapped by what a store holds that was not written.
var errDamaged = errors.New("it is damaged")

// fold puts what is pending, and what processes that ended have left, into the store.
func (d *disk) fold() error {
	d.folding.Lock()
	defer d.folding.Unlock()
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	err := d.foldOnce()
	if errors.Is(err, errDamaged) {
		if err := d.putAside(err); err != nil {
			return err
		}
		if g := d.book.group; g != nil && !d.begun {
			// What was counted under the name is not known any more.
			d.book.mu.Lock()
			g.writer = rand.Text()
			d.book.mu.Unlock()
		}
		err = d.foldOnce()
	}
	return err
}

// putAside makes room for a new store.
func (d *disk) putAside(why error) error {
	path := filepath.Join(d.folder, storeName)
	to := path + aside + d.book.now().UTC().Format("20060102T150405")
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("%w, and cannot be put aside: %v", why, err)
	}
	d.book.log.Error("the store of usage is damaged; it is put aside, and counting begins anew with what is known", zap.String("file", to), zap.Error(why))
	return nil
}

func (d *disk) foldOnce() error {
	legacies, err := d.left()
	defer func() {
		for _, l := range legacies {
			l.file.Close()
		}
	}()
	if err != nil {
		return err
	}
	if err := d.create(); err != nil {
		return err
	}
	db, err := d.openStore(false)
	if err != nil {
		return err
	}
	var (
		inStore map[string]int64
		past    []*journal
		news    *namedNews
	)
	now := d.book.now().UTC()
	if d.book.group != nil {
		d.claim()
	}
	err = guarded(func() error {
		return db.Update(func(tx *bolt.Tx) (err error) {
			// What is settled from here on is in the next batch.
			var used map[string]int64
			var rows map[row]Use
			rows, used, past = d.take()
			if d.unsure.rows != nil && !isFolded(tx, d.unsure.name) {
				rows = sum(d.unsure.rows, rows)
			}
			d.unsure = batch{"batch-" + rand.Text(), rows}
			all, names := []map[row]Use{rows}, []string{d.unsure.name}
			for _, j := range past {
				names = append(names, j.name)
			}
			under := named{}
			for _, l := range legacies {
				if !isFolded(tx, l.name) {
					all = append(all, l.rows)
					under.add(l.writer, l.rows)
				}
				names = append(names, l.name)
			}
			if err := d.forget(tx, names); err != nil {
				return err
			}
			if err := d.put(tx, sum(all...), used, now); err != nil {
				return err
			}
			if d.book.group != nil {
				if news, err = d.putNamed(tx, rows, under, now); err != nil {
					return err
				}
			}
			inStore, err = monthOf(tx, now)
			return err
		})
	})
	closing := guarded(db.Close)
	if err != nil {
		return fmt.Errorf("writing %s: %w", storeName, err)
	}
	if closing != nil {
		d.book.log.Warn("closing the store of usage", zap.Error(closing))
	}
	d.unsure = batch{}
	d.book.mu.Lock()
	d.waiting = nil // they are in the store now
	d.book.mu.Unlock()
	d.stored(len(past))
	for _, l := range legacies {
		d.settle(l)
	}
	d.learn(inStore, now)
	d.toldNamed(news)
	return nil
}

// learn takes what the store says of this month, where that is more than is known:
// other processes count too.
func (d *disk) learn(inStore map[string]int64, now time.Time) {
	b := d.book
	b.mu.Lock()
	defer b.mu.Unlock()
	month := now.Format(monthly)
	for r, u := range b.pending {
		if _, stored := inStore[r.client]; stored && strings.HasPrefix(r.day, month) {
			inStore[r.client] += u.Characters
		}
	}
	for name, used := range inStore {
		if c := b.client(name, b.now()); c.month == month {
			c.used = max(c.used, used)
		}
	}
}

// read takes what the store holds for known: the month of every client, and sessions.
// It is for the start.
func (d *disk) read() error {
	d.folding.RLock()
	defer d.folding.RUnlock()
	b, now := d.book, d.book.now().UTC()
	return d.view(func(tx *bolt.Tx) error {
		inStore, err := monthOf(tx, now)
		if err != nil {
			return err
		}
		known := map[sessionKey]*session{}
		err = each(tx, sessions, "", func(key []string, value []byte) error {
			var k kept
			if len(key) != 2 || json.Unmarshal(value, &k) != nil {
				return errDamaged
			}
			known[sessionKey{key[0], key[1]}] = &session{k.Use, k.Last}
			return nil
		})
		if err != nil {
			return err
		}
		b.mu.Lock()
		for k, s := range known {
			if b.sessions[k] == nil {
				b.sessions[k] = s
			}
		}
		b.mu.Unlock()
		d.learn(inStore, now)
		return nil
	})
}

// view reads the store, if there is one. The caller holds folding.
func (d *disk) view(read func(*bolt.Tx) error) error {
	if _, err := os.Stat(filepath.Join(d.folder, storeName)); os.IsNotExist(err) {
		return nil
	}
	db, err := d.openStore(true)
	if err != nil {
		return err
	}
	err = guarded(func() error { return db.View(read) })
	return cmp.Or(err, guarded(db.Close))
}

// create makes an empty store where there is none: whole, or not at all.
func (d *disk) create() error {
	path := filepath.Join(d.folder, storeName)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		return err
	}
	temporary := filepath.Join(d.folder, unfinished+rand.Text())
	defer os.Remove(temporary)
	db, err := bolt.Open(temporary, 0o600, nil)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(temporary, path); err != nil && !os.IsExist(err) {
		return err
	}
	// The name is there after a crash once the folder is written too.
	folder, err := os.Open(d.folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// openStore opens the store for a moment. Between two moments other processes may.
func (d *disk) openStore(readOnly bool) (db *bolt.DB, err error) {
	err = guarded(func() (err error) {
		db, err = bolt.Open(filepath.Join(d.folder, storeName), 0o600, &bolt.Options{Timeout: lockWait, ReadOnly: readOnly})
		return err
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is held by another process", storeName)
	}
	return db, err
}

// guarded does what may meet pages that are not what was written, of which the library
// panics, or pages that are not there.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %.200s", errDamaged, fmt.Sprint(p))
		}
	}()
	err = do()
	switch {
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %v", errDamaged, err)
	}
	return err
}

func key(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

func isFolded(tx *bolt.Tx, name string) bool {
	b := tx.Bucket(folded)
	return b != nil && b.Get([]byte(name)) != nil
}

// forget notes names as folded, and drops those that nobody can ask for any more: a
// batch of before, a journal that is gone.
func (d *disk) forget(tx *bolt.Tx, names []string) error {
	b, err := tx.CreateBucketIfNotExists(folded)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	now, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range now {
		there[name] = true
	}
	var gone [][]byte
	if err := b.ForEach(func(k, _ []byte) error {
		if !there[string(k)] {
			gone = append(gone, bytes.Clone(k))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, k := range gone {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := b.Put([]byte(name), []byte{}); err != nil {
			return err
		}
	}
	return nil
}

// put adds rows to the store. Used is what clients are known to have used in this month:
// a store that is new begins with that.
func (d *disk) put(tx *bolt.Tx, rows map[row]Use, used map[string]int64, now time.Time) error {
	byDay, err := tx.CreateBucketIfNotExists(days)
	if err != nil {
		return err
	}
	byMonth, err := tx.CreateBucketIfNotExists(months)
	if err != nil {
		return err
	}
	bySession, err := tx.CreateBucketIfNotExists(sessions)
	if err != nil {
		return err
	}
	month := now.Format(monthly)
	for r, u := range rows {
		if err := add(byDay, key(r.day, r.client, r.door), func(sum *Use) { *sum = sum.Plus(u) }); err != nil {
			return err
		}
		if err := addCount(byMonth, key(r.day[:len(monthly)], r.client), u.Characters, 0); err != nil {
			return err
		}
		if r.session != "" {
			d.sessions--
			if err := add(bySession, key(r.client, r.session), func(k *kept) { k.Use, k.Last = k.Use.Plus(u), now }); err != nil {
				return err
			}
		}
	}
	for client, n := range used {
		if err := addCount(byMonth, key(month, client), 0, n); err != nil {
			return err
		}
	}
	return d.prune(byDay, bySession, now)
}

// add changes the value of a key, which is JSON.
func add[T any](b *bolt.Bucket, key []byte, change func(*T)) error {
	var v T
	if raw := b.Get(key); raw != nil {
		var err error
		if v, err = parsed[T](raw); err != nil {
			return err
		}
	}
	change(&v)
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

func parsed[T any](raw []byte) (v T, err error) {
	if json.Unmarshal(raw, &v) != nil {
		return v, errDamaged
	}
	return v, nil
}

// addCount adds n to a number, and makes it least at least.
func addCount(b *bolt.Bucket, key []byte, n, least int64) error {
	now := int64(0)
	if raw := b.Get(key); raw != nil {
		var err error
		if now, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
			return errDamaged
		}
	}
	next := max(now+n, least)
	if next == now {
		return nil
	}
	return b.Put(key, strconv.AppendInt(nil, next, 10))
}

// prune drops days that are too old, and sessions beyond the most.
func (d *disk) prune(byDay, bySession *bolt.Bucket, now time.Time) error {
	first := now.AddDate(0, 0, -mostDays).Format(time.DateOnly)
	c := byDay.Cursor()
	for k, _ := c.First(); k != nil && string(k) < first; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	if d.sessions > 0 {
		return nil
	}
	d.sessions = mostSessions / 10
	all := map[sessionKey]*session{}
	err := bySession.ForEach(func(k, v []byte) error {
		var s kept
		client, name, ok := strings.Cut(string(k), "\x00")
		if !ok || json.Unmarshal(v, &s) != nil {
			return errDamaged
		}
		all[sessionKey{client, name}] = &session{last: s.Last}
		return nil
	})
	if err != nil {
		return err
	}
	if len(all) <= mostSessions {
		return nil
	}
	for _, old := range oldest(all, len(all)-mostSessions*9/10) {
		if err := bySession.Delete(key(old.client, old.session)); err != nil {
			return err
		}
	}
	return nil
}

// each gives the keys of a bucket that begin with prefix, split into their parts.
func each(tx *bolt.Tx, bucket []byte, prefix string, visit func(key []string, value []byte) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	c := b.Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
		if err := visit(strings.Split(string(k), "\x00"), v); err != nil {
			return err
		}
	}
	return nil
}

// monthOf returns the code points of all clients in the month of now.
func monthOf(tx *bolt.Tx, now time.Time) (map[string]int64, error) {
	all := map[string]int64{}
	return all, each(tx, months, now.Format(monthly)+"\x00", func(key []string, value []byte) error {
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || len(key) != 2 {
			return errDamaged
		}
		all[key[1]] = n
		return nil
	})
}
