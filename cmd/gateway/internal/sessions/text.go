package sessions

import (
	"math"
	"math/rand/v2"
	"strings"
)

// words are common ones of English speech. Sentences made of them mean
// nothing, but have the lengths of captions, which is what costs time.
var words = strings.Fields(`the to and of that we you it is in for this on have be with what so are can was they
	about just not there like at do one think going all know if your now more as people our how these get really
	time some right would when here want two then work from see first out way need make very because next which
	thing them other will where who into something question team number actually look start point let over only
	week good also long why could give before after last year new today market product customer meeting little
	different small talk idea change plan problem answer room light water morning evening city river garden music
	letter travel winter summer paper window never always often perhaps together between around without during
	report project budget result reason example moment version server screen button minute hour later early
	again still already maybe across behind under above several many few every each another same both such own`)

// sentence returns a caption: 2 to 40 words, log-normal with a median of 11,
// which are the lengths that live captions have.
func sentence(rng *rand.Rand) string {
	const median, spread = 11, 0.6
	n := min(max(int(math.Round(median*math.Exp(spread*rng.NormFloat64()))), 2), 40)
	var b strings.Builder
	for i := range n {
		word := words[rng.IntN(len(words))]
		if i == 0 {
			word = strings.ToUpper(word[:1]) + word[1:]
		} else {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	b.WriteByte('.')
	return b.String()
}
