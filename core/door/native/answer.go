package native

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// answer writes what became of the items and returns the status: 200 when one
// of them was translated, else that of the first.
//
// The body is put together by hand: with encoding/json it was the dearest part
// of a call that the cache answers.
func (d *Door) answer(w http.ResponseWriter, r *http.Request, id string, p *plan, items []door.Item, begin time.Time) int {
	if len(items) == 1 && items[0].Err != nil {
		door.WriteError(w, r, items[0].Err)
		return door.Answer(items[0].Err.Kind).Status
	}
	buf := d.buffer()
	defer d.putBack(buf)
	b := append(buf.AvailableBuffer(), '{')

	status, failed := http.StatusOK, 0
	for i := range items {
		if items[i].Err != nil {
			failed++
		}
	}
	if failed == len(items) {
		first := door.ProblemOf(items[0].Err, id)
		first.Headers(w.Header())
		status = first.Status
		b = append(appendProblem(append(b, `"error":`...), first), ',')
	}
	b = append(b, `"translations":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(p.appendFields(append(b, '{'), i, &items[i]), '}')
	}
	b = append(p.appendEnd(append(b, "],"...), id, items, begin), "}\n"...)

	buf.Write(b) // keeps what it grew to for the next answer
	door.WriteBody(w, status, buf.Bytes())
	return status
}

// appendEnd writes the fields that follow the translations: the id, where the time
// went, and what the session has used, for who asked.
func (p *plan) appendEnd(b []byte, id string, items []door.Item, begin time.Time) []byte {
	slowest, attempts := 0, 0
	for i := range items {
		attempts += p.requests[i].Trace.Attempts
		if items[i].Took > items[slowest].Took {
			slowest = i
		}
	}
	b = jsontext.AppendString(append(b, `"request_id":`...), id)
	b = appendMilliseconds(append(b, `,"timing":{"total_ms":`...), time.Since(begin))
	b = append(b, `,"stages":{`...)
	for i, s := range p.requests[slowest].Trace.Spans() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsontext.AppendString(b, s.Name), ':')
		b = appendMilliseconds(b, s.Self)
	}
	b = appendMilliseconds(append(b, `},"paced_ms":`...), p.requests[slowest].Trace.Paced)
	b = append(strconv.AppendInt(append(b, `,"attempts":`...), int64(attempts), 10), '}')
	if p.call.sessionUsage {
		total, err := json.Marshal(p.rules.SessionUsed(p.client, p.call.session))
		if err != nil {
			panic(err) // it is made of numbers
		}
		b = append(append(b, `,"session_usage":`...), total...)
	}
	return b
}

// appendFields writes the fields of one translation. What the client gave to
// tell its texts apart comes back; what is unknown is left out.
func (p *plan) appendFields(b []byte, i int, it *door.Item) []byte {
	if res := it.Result; it.Err == nil {
		b = jsontext.AppendString(append(b, `"text":`...), res.Text)
		b = append(b, ',')
	}
	b = jsontext.AppendString(append(b, `"target":`...), string(p.requests[i].Target))
	if res := it.Result; it.Err == nil {
		b = appendGiven(b, `,"detected_source":`, string(res.Source))
		b = appendGiven(b, `,"provider":`, res.Provider)
		b = appendGiven(b, `,"model":`, res.Model)
		b = strconv.AppendBool(append(b, `,"cached":`...), res.Cached)
		b = append(b, `,"flags":[`...)
		for i, flag := range res.Flags {
			if i > 0 {
				b = append(b, ',')
			}
			b = jsontext.AppendString(b, flag)
		}
		b = append(b, ']')
		if u := res.Usage; u != (core.Usage{}) && !res.Cached {
			b = strconv.AppendInt(append(b, `,"usage":{"prompt_tokens":`...), int64(u.PromptTokens), 10)
			b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(u.CompletionTokens), 10)
			if u.CachedTokens > 0 {
				b = strconv.AppendInt(append(b, `,"cached_tokens":`...), int64(u.CachedTokens), 10)
			}
			b = append(b, '}')
		}
	}
	c := p.call
	b = appendGiven(b, `,"session":`, c.session)
	b = appendGiven(b, `,"segment":`, c.segment)
	if c.has(fRevision) {
		b = strconv.AppendInt(append(b, `,"revision":`...), c.revision, 10)
	}
	if c.has(fFinal) {
		b = strconv.AppendBool(append(b, `,"final":`...), c.final)
	}
	if it.Err != nil {
		b = appendProblem(append(b, `,"error":`...), door.ProblemOf(it.Err, ""))
	}
	return b
}

func appendProblem(b []byte, p door.Problem) []byte {
	b = jsontext.AppendString(append(b, `{"kind":`...), string(p.Kind))
	b = jsontext.AppendString(append(b, `,"message":`...), p.Message)
	b = appendGiven(b, `,"field":`, p.Field)
	if p.RetryAfterMS > 0 {
		b = strconv.AppendInt(append(b, `,"retry_after_ms":`...), p.RetryAfterMS, 10)
	}
	b = appendGiven(b, `,"request_id":`, p.RequestID)
	return append(b, '}')
}

// appendGiven writes a key and its value, unless the value is empty.
func appendGiven(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return jsontext.AppendString(append(b, key...), value)
}

// appendMilliseconds writes d in milliseconds, to the microsecond.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Round(time.Microsecond))/float64(time.Millisecond), 'f', -1, 64)
}

// maxKept is the largest buffer that is kept for the next call, in bytes.
const maxKept = 64 << 10

func (d *Door) buffer() *bytes.Buffer {
	buf := d.buffers.Get().(*bytes.Buffer)
	buf.Reset()
	return buf
}

func (d *Door) putBack(buf *bytes.Buffer) {
	if buf.Cap() <= maxKept {
		d.buffers.Put(buf)
	}
}

// languages answers GET /v1/languages.
func (d *Door) languages(w http.ResponseWriter, r *http.Request) {
	if _, err := d.Service.Rules().Client(r, door.Bearer(r), name); err != nil {
		d.refuse(w, r, door.RequestID(w, r), "", time.Now(), err)
		return
	}
	type pair struct {
		Source  core.Language   `json:"source"`
		Targets []core.Language `json:"targets"`
	}
	known := d.Service.Languages()
	pairs := make([]pair, len(known))
	for i, l := range known {
		pairs[i] = pair{l.Source, l.Targets}
	}
	door.WriteJSON(w, http.StatusOK, struct {
		Any       bool   `json:"any"`
		Languages []pair `json:"languages"`
	}{known == nil, pairs})
}
