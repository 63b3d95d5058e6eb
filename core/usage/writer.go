package usage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// Gateways that share what they count have names under which they do, and which outlive
// them: a file in the folder, locked by the process that counts under it. A process that
// begins takes one that is free, and goes on from the total that the store has under it.
// So two processes with one folder have two names, and one that was killed is the same again.

// writerName begins the names of these files.
const writerName = "writer-"

// More buckets of a store, for a group.
var (
	writers = []byte("writers") // name: how often it was taken
	written = []byte("written") // name, day, client, door: a Use
	others  = []byte("others")  // month, client: code points that others used; "members": how many gateways
)

// told names what was used of a day, for the group.
type told struct {
	writer string
	row    // without its session
}

// named is what was used under names.
type named map[string]map[row]Use

func (n named) add(writer string, rows map[row]Use) {
	if writer == "" {
		return
	}
	if n[writer] == nil {
		n[writer] = map[row]Use{}
	}
	for r, u := range rows {
		r.session = ""
		n[writer][r] = n[writer][r].Plus(u)
	}
}

// A renamed is what a gateway used under a name that turned out to be another's as well: of
// that, so much of each client is known to the group.
type renamed struct {
	was   string
	known map[string]int64
}

// namedNews is what the group does not know yet.
type namedNews struct {
	rows map[told]Use
	left bool // a process that ended had something
	was  *renamed
}

// since is the first day that is kept by name: reports of this month and the last one add up
// what all gateways used.
func since(now time.Time) string {
	y, m, _ := now.UTC().Date()
	return time.Date(y, m-1, 1, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}

// join takes a name, and what was counted under it. One that is not sure of that counts
// under a new name.
func (d *disk) join() error {
	g := d.book.group
	if d.takeName(); d.lock == nil {
		d.begun = true
	}
	err := d.fold()
	if err == nil {
		if err = d.read(); err == nil {
			err = d.readNamed()
		}
		return err
	}
	if unread := d.read(); unread != nil {
		err = unread
	}
	d.look()
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
	d.begun = true
	d.book.mu.Lock()
	g.writer, g.taken = rand.Text(), 1
	d.book.mu.Unlock()
	return err
}

// takeName takes a name that is free, if there is one.
func (d *disk) takeName() {
	entries, _ := os.ReadDir(d.folder) // fold says what is wrong with it
	for _, e := range entries {
		name, is := strings.CutPrefix(e.Name(), writerName)
		if !is || len(name) > 64 || strings.ContainsAny(name, " .\x00") {
			continue
		}
		file, err := os.OpenFile(filepath.Join(d.folder, e.Name()), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			file.Close() // it counts
			continue
		}
		d.book.mu.Lock()
		d.book.group.writer = name
		d.book.mu.Unlock()
		d.lock, d.locked = file, name
		return
	}
	d.claim()
}

// claim makes the file of the name under which this process counts.
func (d *disk) claim() {
	d.book.mu.Lock()
	name := d.book.group.writer
	d.book.mu.Unlock()
	if d.lock != nil && d.locked == name {
		return
	}
	if d.lock != nil {
		// Nobody is to take that name again.
		os.Remove(filepath.Join(d.folder, writerName+d.locked))
		d.lock.Close()
		d.lock = nil
	}
	if os.MkdirAll(d.folder, 0o700) != nil {
		return // fold says so
	}
	file, err := os.OpenFile(filepath.Join(d.folder, unfinished+name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil || os.Rename(file.Name(), filepath.Join(d.folder, writerName+name)) != nil {
		os.Remove(file.Name())
		file.Close()
		return
	}
	d.lock, d.locked = file, name
}

// putNamed notes under which name rows were counted: those of this process, and what
// others have left.
func (d *disk) putNamed(tx *bolt.Tx, rows map[row]Use, left named, now time.Time) (*namedNews, error) {
	byWriter, err := tx.CreateBucketIfNotExists(writers)
	if err != nil {
		return nil, err
	}
	all, err := tx.CreateBucketIfNotExists(written)
	if err != nil {
		return nil, err
	}
	g := d.book.group
	d.book.mu.Lock()
	writer, taken, was := g.writer, g.taken, d.renamed
	d.book.mu.Unlock()
	news := &namedNews{rows: map[told]Use{}, left: len(left) > 0, was: was}
	if was != nil {
		corrections, err := d.correct(tx, was, now)
		if err != nil {
			return nil, err
		}
		left.add(writer, corrections)
	}
	left.add(writer, rows)
	first := since(now)
	for name, rows := range left {
		if byWriter.Get([]byte(name)) == nil {
			if err := byWriter.Put([]byte(name), []byte("1")); err != nil {
				return nil, err
			}
		}
		for r, u := range rows {
			if r.day < first {
				continue
			}
			if err := add(all, key(name, r.day, r.client, r.door), func(sum *Use) { *sum = sum.Plus(u); news.rows[told{name, r}] = *sum }); err != nil {
				return nil, err
			}
		}
	}
	if !d.begun {
		if err := d.adoptFolder(tx, writer, first, news); err != nil {
			return nil, err
		}
		n := int64(0)
		if raw := byWriter.Get([]byte(writer)); raw != nil {
			if n, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
				return nil, errDamaged
			}
		}
		taken = max(taken, n+1)
	}
	if err := addCount(byWriter, []byte(writer), 0, taken); err != nil {
		return nil, err
	}
	if err := d.putOthers(tx, now); err != nil {
		return nil, err
	}
	return news, pruneNamed(byWriter, all, first)
}

// adoptFolder counts under writer what was counted in this folder under no name: before it
// was shared.
func (d *disk) adoptFolder(tx *bolt.Tx, writer, first string, news *namedNews) error {
	unnamed := map[row]Use{}
	b := tx.Bucket(days)
	if b == nil {
		return nil
	}
	c := b.Cursor()
	for k, v := c.Seek([]byte(first)); k != nil; k, v = c.Next() {
		parts := strings.Split(string(k), "\x00")
		u, err := parsed[Use](v)
		if err != nil || len(parts) != 3 {
			return errDamaged
		}
		unnamed[row{day: parts[0], client: parts[1], door: parts[2]}] = u
	}
	if err := eachNamed(tx, func(t told, u Use) {
		if was, ok := unnamed[t.row]; ok {
			unnamed[t.row] = was.Plus(u.negative())
		}
	}); err != nil {
		return err
	}
	for r, u := range unnamed {
		if u.Texts <= 0 && u.Characters <= 0 {
			continue
		}
		if err := add(tx.Bucket(written), key(writer, r.day, r.client, r.door), func(sum *Use) { *sum = sum.Plus(u); news.rows[told{writer, r}] = *sum }); err != nil {
			return err
		}
	}
	return nil
}

// negative is what makes nothing of u.
func (u Use) negative() Use {
	n := Use{
		Texts: -u.Texts, Characters: -u.Characters, CachedTexts: -u.CachedTexts, CachedCharacters: -u.CachedCharacters,
		PromptTokens: -u.PromptTokens, CompletionTokens: -u.CompletionTokens, CachedTokens: -u.CachedTokens,
	}
	for _, a := range u.Cost {
		n.Cost = append(n.Cost, Amount{a.Currency, -a.Billionths})
	}
	return n
}

// correct returns what makes of a new name's total what the group does not know of that of
// the old one.
func (d *disk) correct(tx *bolt.Tx, was *renamed, now time.Time) (map[row]Use, error) {
	month := now.Format(monthly)
	rows := map[row]Use{}
	at := func(client string) row { return row{day: now.Format(time.DateOnly), client: client} }
	for client, n := range was.known {
		rows[at(client)] = Use{Characters: -n}
	}
	err := eachNamed(tx, func(t told, u Use) {
		if t.writer == was.was && strings.HasPrefix(t.day, month) {
			r := at(t.client)
			rows[r] = rows[r].Plus(Use{Characters: u.Characters})
		}
	})
	return rows, err
}

// eachNamed gives all that was counted under names.
func eachNamed(tx *bolt.Tx, visit func(told, Use)) error {
	return each(tx, written, "", func(key []string, value []byte) error {
		u, err := parsed[Use](value)
		if err != nil || len(key) != 4 {
			return errDamaged
		}
		visit(told{key[0], row{day: key[1], client: key[2], door: key[3]}}, u)
		return nil
	})
}

// putOthers keeps what is known of the others, for a start at which the store is away.
func (d *disk) putOthers(tx *bolt.Tx, now time.Time) error {
	b, err := tx.CreateBucketIfNotExists(others)
	if err != nil {
		return err
	}
	g, month := d.book.group, now.Format(monthly)
	known := map[string]int64{}
	d.book.mu.Lock()
	members := g.members
	heard := !g.heard.IsZero()
	for name, p := range g.parts {
		if c := d.book.clients[name]; c != nil && c.month == month && p.others > 0 {
			known[name] = p.others
		}
	}
	d.book.mu.Unlock()
	if heard {
		if err := b.Put([]byte("members"), strconv.AppendInt(nil, int64(members), 10)); err != nil {
			return err
		}
	}
	for name, n := range known {
		if err := addCount(b, key(month, name), 0, n); err != nil {
			return err
		}
	}
	c := b.Cursor()
	for k, _ := c.First(); k != nil && string(k) < month; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// pruneNamed drops days that are too old.
func pruneNamed(byWriter, all *bolt.Bucket, first string) error {
	return byWriter.ForEach(func(name, _ []byte) error {
		prefix := string(name) + "\x00"
		c := all.Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix) && string(k) < prefix+first; k, _ = c.Seek([]byte(prefix)) {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

// toldNamed has the group told what is in the store now.
func (d *disk) toldNamed(news *namedNews) {
	g := d.book.group
	if g == nil || news == nil {
		return
	}
	d.begun = true
	b := d.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for t, u := range news.rows {
		g.rows[t] = u
	}
	g.refill = g.refill || news.left
	if d.renamed == news.was {
		d.renamed = nil
	}
}

// readNamed takes what the store holds under the name of this process for known, and what it
// knows of the others. It is for the start.
func (d *disk) readNamed() error {
	d.folding.RLock()
	defer d.folding.RUnlock()
	b, g := d.book, d.book.group
	now := b.now().UTC()
	month := now.Format(monthly)
	return d.view(func(tx *bolt.Tx) error {
		own, known := map[string]int64{}, map[string]int64{}
		if err := eachNamed(tx, func(t told, u Use) {
			if t.writer == g.writer && strings.HasPrefix(t.day, month) {
				own[t.client] += u.Characters
			}
		}); err != nil {
			return err
		}
		if err := each(tx, others, month+"\x00", func(key []string, value []byte) error {
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil || len(key) != 2 {
				return errDamaged
			}
			known[key[1]] = n
			return nil
		}); err != nil {
			return err
		}
		members, taken := 0, int64(1)
		if o := tx.Bucket(others); o != nil {
			members, _ = strconv.Atoi(string(o.Get([]byte("members")))) // it may not be there
		}
		if w := tx.Bucket(writers); w != nil {
			taken, _ = strconv.ParseInt(string(w.Get([]byte(g.writer))), 10, 64) // fold has read it
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		g.taken = max(g.taken, taken)
		if members > 0 {
			g.members = min(members, mostMembers)
		}
		for name, n := range known {
			g.part(name, b.client(name, b.now())).others = n
		}
		for name, n := range own {
			p := g.part(name, b.client(name, b.now()))
			p.own, p.told, p.sent, p.base = n, n, n, n
		}
		return nil
	})
}

// rename has this process count under another name, since its own is told by another
// gateway as well. What the group knows under the old one stays there. The caller holds mu.
func (g *group) rename(machine string, now time.Time) {
	b := g.book
	was := &renamed{g.writer, map[string]int64{}}
	g.writer, g.taken, g.late, g.rows = rand.Text(), 1, map[late]int64{}, map[told]Use{}
	for name, p := range g.parts {
		if p.told != 0 {
			was.known[name] = p.told
		}
		p.own -= p.told
		p.told, p.sent, p.cap, p.far, p.base, p.agreed, p.until = 0, 0, p.own, p.own, p.own, false, time.Time{}
	}
	if d := b.disk; d != nil {
		d.renamed = was
	}
	b.log.Error("another gateway tells what it used under the name of this one: its state folder is a copy of that of this one, or both have one folder without locks; this one counts under a new name from now on, and nothing is counted twice. Give each gateway a state folder of its own", zap.String("other", machine))
}

// mostTold is how many rows are told in one call.
const mostTold = 100

// refold has the group told all that lies in the folder: it knows nothing, or a process that
// ended may not have told it.
func (g *group) refold(ctx context.Context) error {
	d := g.book.disk
	if d == nil {
		return nil
	}
	now := g.book.now().UTC()
	this, first := now.Format(monthly), since(now)
	sums := map[string]map[told]int64{}
	rows := map[told]Use{}
	d.folding.RLock()
	g.book.mu.Lock()
	self := g.writer
	g.book.mu.Unlock()
	err := d.view(func(tx *bolt.Tx) error {
		return eachNamed(tx, func(t told, u Use) {
			if t.day < first {
				return
			}
			rows[t] = u
			month := t.day[:len(monthly)]
			if t.writer == self && month == this {
				return // request tells that
			}
			if sums[month] == nil {
				sums[month] = map[told]int64{}
			}
			sums[month][told{t.writer, row{client: t.client}}] += u.Characters
		})
	})
	d.folding.RUnlock()
	if err != nil {
		return err
	}
	g.book.mu.Lock()
	for t, u := range rows {
		if _, newer := g.rows[t]; !newer {
			g.rows[t] = u
		}
	}
	g.book.mu.Unlock()
	for month, all := range sums {
		for some := range slices.Chunk(slices.Collect(maps.Keys(all)), mostTold) {
			var args []string
			for _, t := range some {
				if n := all[t]; n > 0 {
					args = append(args, t.writer, t.client, strconv.FormatInt(n, 10))
				}
			}
			if len(args) == 0 {
				continue
			}
			if _, err := g.State().Run(ctx, refillScript, "usage:"+month, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// tellRows tells the group what was used of each day.
func (g *group) tellRows(ctx context.Context) {
	b := g.book
	b.mu.Lock()
	if len(g.rows) == 0 {
		b.mu.Unlock()
		return
	}
	byDay := map[string][]told{}
	for t := range g.rows {
		byDay[t.day] = append(byDay[t.day], t)
	}
	b.mu.Unlock()
	for day, all := range byDay {
		for some := range slices.Chunk(all, mostTold) {
			args := []string{"put"}
			sent := map[told]Use{}
			b.mu.Lock()
			g.stamp++
			for _, t := range some {
				u, ok := g.rows[t]
				raw, err := json.Marshal(u)
				if !ok || err != nil {
					continue
				}
				sent[t] = u
				// What others of this folder tell themselves is newer.
				stamp := int64(0)
				if t.writer == g.writer {
					stamp = g.taken<<32 | g.stamp
				}
				args = append(args, t.writer+" "+t.door+" "+t.client, strconv.FormatInt(stamp, 10), string(raw))
			}
			b.mu.Unlock()
			if len(sent) == 0 {
				continue
			}
			if _, err := g.State().Run(ctx, rowsScript, "usage:"+day, args...); err != nil {
				return
			}
			b.mu.Lock()
			for t, u := range sent {
				if now, ok := g.rows[t]; ok && now.same(u) {
					delete(g.rows, t)
				}
			}
			b.mu.Unlock()
		}
	}
}

// same says whether u and v are equal.
func (u Use) same(v Use) bool {
	bare := func(u Use) [7]int64 {
		return [7]int64{u.Texts, u.Characters, u.CachedTexts, u.CachedCharacters, u.PromptTokens, u.CompletionTokens, u.CachedTokens}
	}
	return bare(u) == bare(v) && slices.Equal(u.Cost, v.Cost)
}

var errNotTold = errors.New("the store that the gateways share is away")

// reported returns what other gateways used in a month, and how many names they have. What
// lies in the folder of this one is not in it.
func (g *group) reported(ctx context.Context, month string) (rows map[row]Use, names int, err error) {
	if !g.State().Up() {
		return nil, 0, errNotTold
	}
	d := g.book.disk
	own := map[string]bool{}
	g.book.mu.Lock()
	own[g.writer] = true
	g.book.mu.Unlock()
	if d != nil {
		err := d.view(func(tx *bolt.Tx) error {
			b := tx.Bucket(writers)
			if b == nil {
				return nil
			}
			return b.ForEach(func(name, _ []byte) error { own[string(name)] = true; return nil })
		})
		if err != nil {
			return nil, 0, err
		}
	}
	first, err := time.Parse(monthly, month)
	if err != nil {
		return nil, 0, err
	}
	rows = map[row]Use{}
	seen := map[string]bool{}
	for day := first; day.Month() == first.Month() && !day.After(g.book.now().UTC().AddDate(0, 0, 1)); day = day.AddDate(0, 0, 1) {
		name := day.Format(time.DateOnly)
		list, err := g.State().Run(ctx, rowsScript, "usage:"+name, "get")
		if err != nil {
			return nil, 0, errNotTold
		}
		for i := 0; i+1 < len(list); i += 2 {
			t, u, ok := parseRow(list[i], list[i+1])
			if !ok {
				g.book.mu.Lock()
				g.say("another program or a newer version has written what the group used of a day: it is left out of reports")
				g.book.mu.Unlock()
				continue
			}
			if own[t.writer] {
				continue
			}
			seen[t.writer] = true
			r := row{day: name, door: t.door, client: t.client}
			rows[r] = rows[r].Plus(u)
		}
	}
	return rows, len(seen), nil
}

// parseRow reads a field of a day, and its value.
func parseRow(field, value string) (t told, u Use, ok bool) {
	parts := strings.Split(field, " ")
	_, raw, cut := strings.Cut(value, " ")
	if len(parts) != 3 || !cut || json.Unmarshal([]byte(raw), &u) != nil {
		return t, u, false
	}
	return told{parts[0], row{door: parts[1], client: parts[2]}}, u, true
}
