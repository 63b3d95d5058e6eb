package format

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core/lazy"
)

// A cue is one line of speech, or what one speaker of two says in it: what is shown from
// start to end, in milliseconds.
type cue struct {
	id         string
	start, end int
	group      string // what is not of the same is another voice
	spans      []span // its lines
	alone      bool   // it is not a part of a sentence that runs on
	marks      Marks
	prose      bool // with entities, as HTML has them
	text       string
}

var (
	tagInCue   = lazy.Regexp(`</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}`)
	dialogue   = lazy.Regexp(`^\s*(?:<[^<>]*>|\{[^{}]*\})*\s*[-–—‐]\s*`)
	cuePrefix  = lazy.Regexp(`^(?:\s|\{\\[^{}]*\}|♪|♫|#)+`)
	cueSuffix  = lazy.Regexp(`(?:\s|♪|♫|#)+$`)
	wholeInTag = lazy.Regexp(`(?s)^<([A-Za-z]+)[^<>]*>([^<>]*)</([A-Za-z]+)>$`)
)

// speech finds what is said in lines, and adds it to all.
func (r *reader) speech(all []cue, c cue, lines []span) []cue {
	dialogues := 0
	for _, l := range lines {
		if dialogue().MatchString(r.of(l)) {
			dialogues++
		}
	}
	parts := [][]span{lines}
	if dialogues > 1 || dialogues == 1 && len(lines) > 1 {
		parts = nil
		for _, l := range lines {
			if n := len(dialogue().FindString(r.of(l))); n > 0 || len(parts) == 0 {
				l.start += n
				parts = append(parts, []span{l})
			} else {
				parts[len(parts)-1] = append(parts[len(parts)-1], l)
			}
		}
		c.alone = true
	}
	for _, part := range parts {
		own := c
		own.spans = append([]span(nil), part...)
		if r.bare(&own) {
			all = append(all, own)
		}
	}
	return all
}

// bare leaves out of c what stands round its text, and says whether there is one.
func (r *reader) bare(c *cue) bool {
	first, last := &c.spans[0], &c.spans[len(c.spans)-1]
	if n := len(dialogue().FindString(r.of(*first))); n > 0 && len(c.spans) == 1 {
		first.start += n
	}
	first.start += len(cuePrefix().FindString(r.of(*first)))
	if n := len(cueSuffix().FindString(r.of(*last))); n > 0 {
		last.end = max(last.end-n, last.start)
	}
	if m := wholeInTag().FindStringSubmatchIndex(r.text[first.start:max(last.end, first.start)]); m != nil {
		begin := first.start
		if r.text[begin+m[2]:begin+m[3]] == r.text[begin+m[6]:begin+m[7]] {
			// The tag stands on the first line, and its end on the last one.
			if begin+m[4] <= first.end && begin+m[5] >= last.start {
				first.start, last.end = begin+m[4], begin+m[5]
			}
		}
	}
	var b strings.Builder
	for i := range c.spans {
		c.spans[i] = r.trimmed(c.spans[i])
		line := r.of(c.spans[i])
		if b.Len() > 0 && line != "" {
			before, _ := utf8.DecodeLastRuneInString(b.String())
			after, _ := utf8.DecodeRuneInString(line)
			if !spaceless(before) || !spaceless(after) {
				b.WriteByte(' ')
			}
		}
		b.WriteString(line)
	}
	c.text = strings.Join(strings.Fields(b.String()), " ")
	if tagInCue().MatchString(c.text) {
		c.marks, c.alone = Override, true
	}
	if c.prose && strings.Contains(c.text, "&") {
		c.marks, c.alone = HTML, true
	}
	return strings.ContainsFunc(c.text, unicode.IsLetter)
}

// Bounds of a sentence that runs over several cues.
const (
	mostCues  = 6
	mostRunes = 400
	mostPause = 2000 // milliseconds between two of them
)

// sentences adds the cues as segments, a sentence that runs over several of them as one.
func (r *reader) sentences(all []cue, lineEnd string) {
	complete := 0
	for _, c := range all {
		if concludes(c.text) {
			complete++
		}
	}
	punctuated := complete*2 >= len(all)
	for begin := 0; begin < len(all); {
		end, runes := begin+1, utf8.RuneCountInString(all[begin].text)
		for end < len(all) && end-begin < mostCues && runsOn(&all[end-1], &all[end], punctuated) {
			if runes += utf8.RuneCountInString(all[end].text); runes > mostRunes {
				break
			}
			end++
		}
		r.sentence(all[begin:end], lineEnd)
		begin = end
	}
}

// concludes says whether a sentence ends where text does.
func concludes(text string) bool {
	text = strings.TrimRight(text, `"'”’»)]} `)
	c, _ := utf8.DecodeLastRuneInString(text)
	return strings.ContainsRune(".!?…。！？؟।:", c)
}

// runsOn says whether what is said in a goes on in b.
func runsOn(a, b *cue, punctuated bool) bool {
	if a.alone || b.alone || a.group != b.group || b.start-a.end > mostPause || b.start < a.start {
		return false
	}
	last, _ := utf8.DecodeLastRuneInString(a.text)
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(b.text, `…."'“‘«([`))
	dots := strings.HasSuffix(a.text, "...") || strings.HasSuffix(a.text, "…")
	switch {
	case dots, last == ',':
		return unicode.IsLower(first) || last == ','
	case concludes(a.text):
		return false
	case unicode.IsLower(first):
		return true
	}
	return punctuated && unicode.IsLower(last)
}

// sentence adds cues as one segment.
func (r *reader) sentence(cues []cue, lineEnd string) {
	var b strings.Builder
	had := make([]int, len(cues))
	for i, c := range cues {
		if i > 0 {
			before, _ := utf8.DecodeLastRuneInString(b.String())
			after, _ := utf8.DecodeRuneInString(c.text)
			if !spaceless(before) || !spaceless(after) {
				b.WriteByte(' ')
			}
		}
		b.WriteString(c.text)
		had[i] = utf8.RuneCountInString(c.text)
	}
	id := cues[0].id
	if n := len(cues); n > 1 {
		id = fmt.Sprintf("%s-%s", id, cues[n-1].id)
	}
	most := r.options.Line
	r.add(cues[0].spans[0].start, Segment{ID: id, Text: b.String(), Marks: cues[0].marks}, func(answer string) (edits []edit) {
		for i, part := range share(answer, had, most) {
			lines := wrapMarked(part, most, cues[i].marks)
			spans := cues[i].spans
			edits = append(edits, edit{spans[0].start, spans[len(spans)-1].end, strings.Join(lines, lineEnd)})
		}
		return edits
	})
}

// wrapMarked is wrap, for which marks take no room and are not broken.
func wrapMarked(text string, most int, m Marks) []string {
	if m == NoMarks {
		return wrap(text, most)
	}
	// Marks are replaced by one character each that no text has, and put back.
	var marks []string
	var b strings.Builder
	for raw, mark := range m.parts(text) {
		if !mark {
			b.WriteString(strings.Map(func(c rune) rune {
				if c == '\ue000' {
					return -1
				}
				return c
			}, raw))
			continue
		}
		marks = append(marks, raw)
		b.WriteRune('\ue000')
	}
	lines := wrap(b.String(), most)
	for i := range lines {
		for strings.ContainsRune(lines[i], '\ue000') {
			lines[i] = strings.Replace(lines[i], "\ue000", marks[0], 1)
			marks = marks[1:]
		}
	}
	return lines
}

var (
	srtTimes = lazy.Regexp(`^\s*(\d{1,3}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})\s*-->\s*(\d{1,3}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})(?:\s.*)?$`)
	vttTimes = lazy.Regexp(`^\s*(?:(\d{2,4}):)?(\d{2}):(\d{2})\.(\d{3})\s+-->\s+(?:(\d{2,4}):)?(\d{2}):(\d{2})\.(\d{3})(?:\s.*)?$`)
	number   = lazy.Regexp(`^\s*\d+\s*$`)
)

// times returns begin and end of a cue in milliseconds.
func times(m []string) (start, end int) {
	at := func(m []string) int {
		n := func(s string) int { v, _ := strconv.Atoi(s); return v }
		fraction := m[3]
		for len(fraction) < 3 {
			fraction += "0"
		}
		return ((n(m[0])*60+n(m[1]))*60+n(m[2]))*1000 + n(fraction)
	}
	return at(m[1:5]), at(m[5:9])
}

// readSRT reads SubRip subtitles.
func readSRT(r *reader) error {
	lines := r.lines()
	var cues []cue
	var timed []int
	for i, l := range lines {
		text := r.of(l)
		switch m := srtTimes().FindStringSubmatch(text); {
		case m != nil:
			if start, end := times(m); end < start {
				return r.fail(l.start, "the cue ends before it begins: %s", strings.TrimSpace(text))
			}
			timed = append(timed, i)
		case strings.Contains(text, "-->"):
			return r.fail(l.start, "the times of a cue are such as 00:01:02,500 --> 00:01:04,000")
		case len(timed) == 0 && strings.TrimSpace(text) != "" && !number().MatchString(text):
			return r.fail(l.start, "this is no SRT file: want the number of a cue, or its times")
		}
	}
	for k, at := range timed {
		end := len(lines)
		if k+1 < len(timed) {
			end = timed[k+1]
			if end-1 > at && number().MatchString(r.of(lines[end-1])) {
				end--
			}
		}
		c := cue{id: strconv.Itoa(k + 1)}
		if at > 0 && number().MatchString(r.of(lines[at-1])) {
			c.id = strings.TrimSpace(r.of(lines[at-1]))
		}
		c.start, c.end = times(srtTimes().FindStringSubmatch(r.of(lines[at])))
		cues = r.paragraphs(cues, c, lines[at+1:end])
	}
	if len(timed) == 0 && strings.TrimSpace(r.text) != "" {
		return r.fail(0, "this is no SRT file: it has no cue with times, such as 00:01:02,500 --> 00:01:04,000")
	}
	r.sentences(cues, r.eol)
	return nil
}

// paragraphs adds what is said in lines; a blank one among them stays.
func (r *reader) paragraphs(cues []cue, c cue, lines []span) []cue {
	var some []span
	several := false
	for i, l := range lines {
		if t := r.trimmed(l); t.end > t.start {
			some = append(some, l)
			if i < len(lines)-1 {
				continue
			}
		}
		if len(some) > 0 {
			own := c
			own.alone = several
			cues = r.speech(cues, own, some)
			some, several = nil, true
		}
	}
	return cues
}

// readVTT reads WebVTT (W3C, WebVTT: The Web Video Text Tracks Format).
func readVTT(r *reader) error {
	lines := r.lines()
	if len(lines) == 0 || !strings.HasPrefix(r.of(lines[0]), "WEBVTT") {
		return r.fail(0, "this is no WebVTT file: its first line is WEBVTT")
	}
	var cues []cue
	skip, id := true, "" // the header goes until a blank line
	for i := 1; i < len(lines); i++ {
		text := strings.TrimSpace(r.of(lines[i]))
		switch m := vttTimes().FindStringSubmatch(text); {
		case text == "":
			skip, id = false, ""
		case m != nil:
			c := cue{id: id, prose: true}
			if c.start, c.end = times(m); c.end < c.start {
				return r.fail(lines[i].start, "the cue ends before it begins: %s", text)
			}
			if c.id == "" {
				c.id = strings.TrimSpace(strings.SplitN(text, "-->", 2)[0])
			}
			begin := i + 1
			for i+1 < len(lines) && strings.TrimSpace(r.of(lines[i+1])) != "" {
				i++
				if strings.Contains(r.of(lines[i]), "-->") {
					return r.fail(lines[i].start, "the cue's text holds -->, which it must not: is a blank line missing?")
				}
			}
			if i >= begin {
				cues = r.speech(cues, c, lines[begin:i+1])
			}
		case skip:
		case strings.Contains(text, "-->"):
			return r.fail(lines[i].start, "the times of a cue are such as 00:01:02.500 --> 00:01:04.000")
		case strings.HasPrefix(text, "NOTE") || strings.HasPrefix(text, "STYLE") || strings.HasPrefix(text, "REGION"):
			skip = true
		default:
			id = text
		}
	}
	r.sentences(cues, r.eol)
	return nil
}

var assTime = lazy.Regexp(`^\s*(\d{1,2}):(\d{2}):(\d{2})[.:](\d{2})\s*$`)

// readASS reads Advanced SubStation Alpha, and SubStation Alpha before it.
func readASS(r *reader) error {
	section := ""
	var columns []string
	var cues []cue
	sections := 0
	for number, line := range r.lines() {
		text := strings.TrimSpace(r.of(line))
		if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
			section = strings.ToLower(text)
			sections++
			continue
		}
		if section != "[events]" {
			if sections == 0 && text != "" && text[0] != ';' {
				return r.fail(line.start, "this is no ASS file: want a section such as [Script Info]")
			}
			continue
		}
		kind, rest, _ := strings.Cut(text, ":")
		switch kind {
		case "Format":
			columns = nil
			for _, c := range strings.Split(rest, ",") {
				columns = append(columns, strings.ToLower(strings.TrimSpace(c)))
			}
			if len(columns) == 0 || columns[len(columns)-1] != "text" {
				return r.fail(line.start, "the last column of Format must be Text")
			}
			continue
		case "Dialogue":
		default:
			continue
		}
		if columns == nil {
			return r.fail(line.start, "a Dialogue before the Format of its columns")
		}
		begin := line.start + strings.IndexByte(r.of(line), ':') + 1
		c := cue{id: strconv.Itoa(number + 1)}
		for _, name := range columns[:len(columns)-1] {
			n := strings.IndexByte(r.text[begin:line.end], ',')
			if n < 0 {
				return r.fail(line.start, "the Dialogue has fewer columns than its Format")
			}
			value := r.text[begin : begin+n]
			switch name {
			case "start", "end":
				m := assTime().FindStringSubmatch(value)
				if m == nil {
					return r.fail(begin, "a time is such as 0:01:02.50, got %.40q", value)
				}
				at, _ := times(append([]string{"", m[1], m[2], m[3], m[4]}, "0", "0", "0", "0"))
				if name == "start" {
					c.start = at
				} else {
					c.end = at
				}
			case "style", "name", "actor", "layer":
				c.group += value + "\x00"
			}
			begin += n + 1
		}
		if c.end < c.start {
			return r.fail(line.start, "the line ends before it begins")
		}
		said := span{begin, line.end}
		if drawing().MatchString(r.of(said)) {
			continue
		}
		// \N and \n end a line.
		var spans []span
		at := said.start
		for _, m := range assBreak().FindAllStringIndex(r.of(said), -1) {
			spans = append(spans, span{at, said.start + m[0]})
			at = said.start + m[1]
		}
		spans = append(spans, span{at, said.end})
		cues = r.speech(cues, c, spans)
	}
	if sections == 0 && strings.TrimSpace(r.text) != "" {
		return r.fail(0, "this is no ASS file: it has no section such as [Events]")
	}
	r.sentences(cues, `\N`)
	return nil
}

var (
	drawing  = lazy.Regexp(`\{[^{}]*\\p[1-9][^{}]*\}`)
	assBreak = lazy.Regexp(`\\[Nn]`)
)
