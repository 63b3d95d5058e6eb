package traffic

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Speech is what so many people say for so long, as a recogniser writes it down: 150
// words a minute, segments of 2 to 40 words with a median of 11, two revisions a second
// of which about 65 % append, 20 % rewrite the last one to three words, 10 % change case
// or punctuation and 5 % rewrite more. A fifth of the segments are what was said before.
// The same seed says the same.
func Speech(sessions int, long time.Duration, seed uint64) (all []Event) {
	for n := range sessions {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		s := speaker{rand: r, session: fmt.Sprintf("session-%d", n+1)}
		for at := time.Duration(r.Float64() * float64(2*time.Second)); at < long; {
			at = s.segment(at)
			at += time.Duration((.5 + r.ExpFloat64()*.7) * float64(time.Second))
		}
		all = append(all, s.events...)
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.AtMS, b.AtMS) })
	return all
}

type speaker struct {
	rand    *rand.Rand
	session string
	said    int
	events  []Event
}

var (
	vocabulary = strings.Fields(`the of to and a in is it you that he was for on are with as his they be at one have this from or had by hot but
		some what there we can out other were all your when up use word how said an each she which do their time if will way about many then them would write
		like so these her long make thing see him two has look more day could go come did my sound no most number who over know water than call first people
		may down side been now find any new work part take get place made live where after back little only round man year came show every good me give our
		under name very through just form much great think say help low line before turn cause same mean differ move right boy old too does tell sentence set three
		want air well also play small end put home read hand port large spell add even land here must big high such follow act why ask men change went light kind
		off need house picture try us again animal point mother world near build self earth father head stand own page should country found answer school grow study
		still learn plant cover food sun four thought let keep eye never last door between city tree cross since hard start might story saw far sea draw left late`)
	replies = []string{"Okay.", "Thank you.", "Yes, exactly.", "All right.", "I see.", "Good question."}
)

func (s *speaker) word() string { return vocabulary[s.rand.IntN(len(vocabulary))] }

// segment says one, from at, and returns when it was over.
func (s *speaker) segment(at time.Duration) time.Duration {
	s.said++
	id := fmt.Sprintf("s%d", s.said)
	var truth []string
	if s.rand.Float64() < .2 {
		truth = strings.Fields(replies[s.rand.IntN(len(replies))])
	} else {
		n := int(math.Round(11 * math.Exp(s.rand.NormFloat64()*.6)))
		n = min(max(n, 2), 40)
		for len(truth) < n {
			truth = append(truth, s.sentence(min(n-len(truth), 8+s.rand.IntN(12)))...)
		}
	}
	event := func(at time.Duration, revision int, text string, final bool) {
		s.events = append(s.events, Event{AtMS: at.Milliseconds(), Session: s.session, Segment: id, Revision: int64(revision), Text: text, Final: final})
	}
	pace := time.Duration(float64(time.Minute) / (150 * (.85 + s.rand.Float64()*.3)))
	var heard []string
	revision, spoken := 0, time.Duration(len(truth))*pace
	for t := pace; ; t += time.Duration((.3 + s.rand.Float64()*.5) * float64(time.Second)) {
		if t >= spoken {
			break
		}
		revision++
		heard = s.hear(truth, heard, min(len(truth), int(t/pace)))
		event(at+t, revision, strings.Join(heard, " "), false)
	}
	end := at + spoken + time.Duration((.3+s.rand.Float64()*.5)*float64(time.Second))
	event(end, revision+1, strings.Join(truth, " "), true)
	return end
}

// sentence is one as it is written in the end.
func (s *speaker) sentence(n int) (words []string) {
	for range max(n, 2) {
		words = append(words, s.word())
	}
	if len(words) > 7 && s.rand.Float64() < .5 {
		i := 2 + s.rand.IntN(len(words)-4)
		words[i] += ","
	}
	words[0] = capital(words[0])
	words[len(words)-1] += "."
	return words
}

func capital(w string) string {
	r := []rune(w)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// hear is the next revision, when n words of truth were spoken.
func (s *speaker) hear(truth, heard []string, n int) []string {
	next := slices.Clone(heard)
	for len(next) < n { // what is new; a full stop is known once the next word has come
		w := truth[len(next)]
		if s.rand.Float64() < .1 {
			w = s.word()
		}
		if len(next)+1 == n {
			w = strings.TrimRight(w, ".,")
		}
		next = append(next, w)
	}
	for i := 0; i < len(next)-1 && i < len(heard); i++ {
		if next[i] == strings.TrimRight(truth[i], ".,") || strings.EqualFold(next[i], truth[i]) && s.rand.Float64() < .7 {
			next[i] = truth[i]
		}
	}
	if len(next) == 0 {
		return next
	}
	switch p := s.rand.Float64(); {
	case p < .65:
	case p < .85: // the last one to three
		for i := max(0, len(next)-1-s.rand.IntN(3)); i < len(next); i++ {
			if plain := strings.TrimRight(truth[i], ".,"); next[i] == plain {
				if s.rand.Float64() < .3 {
					next[i] = s.word()
				}
			} else if next[i] != truth[i] {
				next[i] = plain
			}
		}
	case p < .95: // case or punctuation
		i := s.rand.IntN(len(next))
		if w := next[i]; strings.ToLower(w) == w {
			next[i] = capital(w)
		} else {
			next[i] = strings.ToLower(w)
		}
	default: // more
		for i := range next {
			if next[i] != truth[i] {
				next[i] = strings.TrimRight(truth[i], ".,")
			}
		}
		i := s.rand.IntN(len(next))
		if s.rand.Float64() < .5 {
			next[i] = s.word()
		}
	}
	return next
}
