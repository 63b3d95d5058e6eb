package native

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAFeedGivesEachItemsTextInOrderAndHoldsNoMoreThanItMay takes at random
// moments what random items say: what was given of an item is how its text
// begins, without a gap, all of it when there always was room, and before its
// end.
func TestAFeedGivesEachItemsTextInOrderAndHoldsNoMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const items = 3
		f := newFeed(items)
		f.room = rapid.IntRange(0, 40).Draw(t, "room")
		room, held := f.room, 0
		var said, given [items]string
		var full, over, told [items]bool
		take := func() {
			b, ended := f.take(nil, nil)
			held = 0
			for frame := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte("\n\n")), []byte("\n\n")) {
				if len(frame) == 0 {
					continue
				}
				data, ok := bytes.CutPrefix(frame, []byte("event: delta\ndata: "))
				var d struct {
					Index int
					Text  string
				}
				if err := json.Unmarshal(data, &d); !ok || err != nil || d.Text == "" || told[d.Index] {
					t.Fatalf("%q: %v", frame, err)
				}
				given[d.Index] += d.Text
			}
			for _, i := range ended {
				if told[i] || !over[i] {
					t.Fatalf("the end of %d: %v", i, ended)
				}
				told[i] = true
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				i := rapid.IntRange(0, items-1).Draw(t, "item")
				text := rapid.StringOfN(rapid.RuneFrom([]rune("aé\n\"😀")), 0, 12, -1).Draw(t, "text")
				if over[i] {
					t.Skip("has ended")
				}
				full[i] = full[i] || held+len(text) > room
				f.delta(i, text)
				if said[i] += text; !full[i] {
					held += len(text)
				}
			},
			"end": func(t *rapid.T) {
				i := rapid.IntRange(0, items-1).Draw(t, "item")
				if over[i] {
					t.Skip("has ended")
				}
				over[i] = true
				f.end(i)
			},
			"take": func(*rapid.T) {
				select {
				case <-f.news:
					take()
				default:
					if b, ended := f.take(nil, nil); len(b) > 0 || len(ended) > 0 {
						t.Fatal("there was something to take, and nobody was told")
					}
				}
			},
			"": func(t *rapid.T) {
				kept := 0
				for i := range f.items {
					kept += len(f.items[i].text)
				}
				if kept != held || kept > room || f.room != room-kept {
					t.Fatalf("%d bytes are held of %d, want %d; room %d", kept, room, held, f.room)
				}
			},
		})
		take()
		for i := range items {
			if !strings.HasPrefix(said[i], given[i]) || !full[i] && given[i] != said[i] || told[i] != over[i] {
				t.Errorf("item %d said %q, ended %v; given %q, ended %v", i, said[i], over[i], given[i], told[i])
			}
		}
	})
}
