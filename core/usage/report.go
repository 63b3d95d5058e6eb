package usage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// What a report adds up by.
const (
	ByKey     = "key"
	ByDay     = "day"
	ByDoor    = "door"
	BySession = "session"
)

// A Report is what was used in a month, by UTC, or by the sessions that are known.
type Report struct {
	By    string      `json:"by"`
	Month string      `json:"month,omitempty"` // 2026-11; empty by session
	Rows  []ReportRow `json:"rows"`
	Total Use         `json:"total"`
	// Gateways says how many others' usage is in it, of gateways that share what they count.
	Gateways int `json:"other_gateways,omitempty"`
	// Alone says why it is that of this gateway alone, although others share it.
	Alone string `json:"alone,omitempty"`
	// Notice says why usage is not kept on disk at the moment.
	Notice string `json:"notice,omitempty"`
}

// A ReportRow is one key, day, door or session.
type ReportRow struct {
	Name string `json:"name"` // empty for calls without a key
	// Key is whose session it is.
	Key string `json:"key,omitempty"`
	Use
	// Limit is the key's characters_per_month, where it has one.
	Limit int64 `json:"characters_per_month,omitempty"`
	// Last is when the session was used last.
	Last time.Time `json:"last,omitzero"`
}

// Report adds up a month, written 2026-11, or the one that is when month is empty.
// Limits are those of the keys that there are. The error says what was asked for that
// there is not, or why the store cannot be read.
func (b *Book) Report(by, month string, limits map[string]Limits) (Report, error) {
	if month == "" {
		month = b.now().UTC().Format(monthly)
	}
	if _, err := time.Parse(monthly, month); err != nil {
		return Report{}, &BadReport{fmt.Sprintf("%.40q is no month; write one such as 2026-11", month)}
	}
	if by == "" {
		by = ByKey
	}
	report := Report{By: by, Month: month, Rows: []ReportRow{}}
	if by == BySession {
		report.Month = ""
		b.mu.Lock()
		for k, s := range b.sessions {
			report.Rows = append(report.Rows, ReportRow{Name: k.session, Key: k.client, Use: s.use, Last: s.last.UTC().Truncate(time.Second)})
		}
		b.mu.Unlock()
		if b.group != nil {
			report.Alone = "sessions are told by the gateway that had them"
		}
		slices.SortFunc(report.Rows, func(a, b ReportRow) int {
			return cmp.Or(b.Last.Compare(a.Last), strings.Compare(a.Key, b.Key), strings.Compare(a.Name, b.Name))
		})
	} else {
		name := map[string]func(row) string{
			ByKey: func(r row) string { return r.client }, ByDay: func(r row) string { return r.day }, ByDoor: func(r row) string { return r.door },
		}[by]
		if name == nil {
			return Report{}, &BadReport{fmt.Sprintf("usage cannot be told by %.40q; by %s, %s, %s or %s it can", by, ByKey, ByDay, ByDoor, BySession)}
		}
		all, err := b.month(month)
		if err != nil {
			return Report{}, err
		}
		if b.group != nil {
			theirs, gateways, err := b.group.reported(context.Background(), month)
			if err != nil {
				report.Alone = "what other gateways used is not in it: " + err.Error()
			}
			all, report.Gateways = sum(all, theirs), gateways
		}
		sums := map[string]Use{}
		for r, u := range all {
			sums[name(r)] = sums[name(r)].Plus(u)
		}
		if by == ByKey {
			for key, l := range limits {
				if _, used := sums[key]; !used && l.CharactersPerMonth > 0 {
					sums[key] = Use{}
				}
			}
		}
		for name, use := range sums {
			r := ReportRow{Name: name, Use: use}
			if by == ByKey {
				r.Limit = limits[name].CharactersPerMonth
			}
			report.Rows = append(report.Rows, r)
		}
		slices.SortFunc(report.Rows, func(a, b ReportRow) int { return strings.Compare(a.Name, b.Name) })
	}
	for _, r := range report.Rows {
		report.Total = report.Total.Plus(r.Use)
	}
	report.Notice = b.Notice()
	return report, nil
}

// BadReport is a report that there is not.
type BadReport struct{ why string }

func (e *BadReport) Error() string { return e.why }

// month returns the rows of a month, those in the store and those that are not there yet.
func (b *Book) month(month string) (map[row]Use, error) {
	all := map[row]Use{}
	if d := b.disk; d != nil {
		d.folding.RLock()
		defer d.folding.RUnlock()
		sure := true
		err := d.view(func(tx *bolt.Tx) error {
			sure = isFolded(tx, d.unsure.name)
			return each(tx, days, month, func(key []string, value []byte) error {
				u, err := parsed[Use](value)
				if err != nil || len(key) != 3 {
					return errDamaged
				}
				all[row{day: key[0], client: key[1], door: key[2]}] = u
				return nil
			})
		})
		if err != nil && b.Notice() == "" {
			return nil, fmt.Errorf("reading %s: %w", storeName, err)
		}
		if !sure {
			all = sum(all, ofMonth(d.unsure.rows, month))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.disk; d != nil {
		all = sum(all, ofMonth(d.waiting, month))
	}
	return sum(all, ofMonth(b.pending, month)), nil
}

func ofMonth(rows map[row]Use, month string) map[row]Use {
	all := map[row]Use{}
	for r, u := range rows {
		if strings.HasPrefix(r.day, month) {
			all[r] = u
		}
	}
	return all
}
