package trace

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dragoman-mt/dragoman/core"
)

// Spans are written as opentelemetry/proto/trace/v1/trace.proto has them, by hand: the
// generated types would make the program 0.2 MB larger, an SDK with its exporter 1.9 MB, and
// neither knows of a span whose id has left before it exists. The tests read what is
// written with the generated types.

// The values of Span.kind, and of Status.code.
const (
	kindInternal = 1
	kindServer   = 2
	kindClient   = 3

	statusError = 2
)

// A span is one as it is being written.
type span []byte

// begin writes what every span has, to b.
func begin(b span, name string, kind uint64, c, parent core.SpanContext, start time.Time, took time.Duration) span {
	b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), c.Trace[:])
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), c.Span[:])
	if c.State != "" {
		b = str(b, 3, c.State)
	}
	if !parent.IsZero() {
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), parent.Span[:])
	}
	b = str(b, 5, name)
	b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), kind)
	from := start.UnixNano()
	b = protowire.AppendFixed64(protowire.AppendTag(b, 7, protowire.Fixed64Type), uint64(from))
	b = protowire.AppendFixed64(protowire.AppendTag(b, 8, protowire.Fixed64Type), uint64(from+int64(took)))
	return b
}

// field begins a field that holds n bytes, which come next.
func field(b []byte, number protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(n))
}

// sizeOf is how long a field of n bytes is. Its number is below 16.
func sizeOf(n int) int { return 1 + protowire.SizeBytes(n) }

// str writes a field that is a string.
func str(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

// sizePair is how long a KeyValue is whose value has n bytes, and pair begins one: its
// value, an AnyValue, comes next.
func sizePair(key string, n int) int { return sizeOf(len(key)) + sizeOf(n) }

func pair(b []byte, key string, n int) []byte { return field(str(b, 1, key), 2, n) }

// attribute begins an attribute whose value has n bytes, which come next.
func (s *span) attribute(key string, n int) {
	*s = pair(field(*s, 9, sizePair(key, n)), key, n)
}

// mostValue is the longest value of an attribute, in bytes.
const mostValue = 256

// clip returns of value what an attribute may hold.
func clip(value string) string {
	if len(value) <= mostValue {
		return value
	}
	value = value[:mostValue]
	for len(value) > 0 && value[len(value)-1] >= 0x80 { // no half of a character
		value = value[:len(value)-1]
	}
	return value
}

// text writes an attribute, unless it is empty.
func (s *span) text(key, value string) {
	if value != "" {
		value = clip(value)
		s.attribute(key, sizeOf(len(value)))
		*s = str(*s, 1, value)
	}
}

func (s *span) flag(key string, value bool) {
	s.attribute(key, 2)
	*s = protowire.AppendVarint(protowire.AppendTag(*s, 2, protowire.VarintType), protowire.EncodeBool(value))
}

func (s *span) number(key string, value int) {
	s.attribute(key, 1+protowire.SizeVarint(uint64(value)))
	*s = protowire.AppendVarint(protowire.AppendTag(*s, 3, protowire.VarintType), uint64(value))
}

func (s *span) real(key string, value float64) {
	s.attribute(key, 9)
	*s = protowire.AppendFixed64(protowire.AppendTag(*s, 4, protowire.Fixed64Type), math.Float64bits(value))
}

func (s *span) texts(key string, values []string) {
	if len(values) == 0 {
		return
	}
	n := 0
	for _, v := range values {
		n += sizeOf(sizeOf(len(clip(v))))
	}
	s.attribute(key, sizeOf(n))
	*s = field(*s, 5, n)
	for _, v := range values {
		v = clip(v)
		*s = str(field(*s, 1, sizeOf(len(v))), 1, v)
	}
}

// link says that the span has to do with c.
func (s *span) link(c core.SpanContext) {
	*s = field(*s, 13, sizeOf(len(c.Trace))+sizeOf(len(c.Span)))
	*s = protowire.AppendBytes(protowire.AppendTag(*s, 1, protowire.BytesType), c.Trace[:])
	*s = protowire.AppendBytes(protowire.AppendTag(*s, 2, protowire.BytesType), c.Span[:])
}

// ended says with which error it has, and whether that is a failure of who made the span.
func (s *span) ended(e *core.Error, failed bool) {
	s.text(errorType, string(e.Kind))
	s.text(dragomanFailedAt, e.Stage)
	if failed {
		*s = str(field(*s, 15, sizeOf(len(e.Kind))+2), 2, string(e.Kind))
		*s = protowire.AppendVarint(protowire.AppendTag(*s, 3, protowire.VarintType), statusError)
	}
}

// A parcel is an ExportTraceServiceRequest that is being written. Spans come in one after
// the other, and what stands before them, which says how long all is, comes last: there is
// room for it in front.
type parcel struct {
	head, bytes []byte
	front       int // of bytes, for the head
	spans       int
}

// open returns a parcel of resource, in room that was used before, if there is any.
func open(resource, room []byte) *parcel {
	p := &parcel{head: protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), resource), front: len(resource) + 96}
	p.bytes = append(room[:0], make([]byte, p.front)...)
	return p
}

// add takes a copy of s in.
func (p *parcel) add(s span) {
	p.bytes = protowire.AppendBytes(protowire.AppendTag(p.bytes, 2, protowire.BytesType), s)
	p.spans++
}

// size is how long the spans are, in bytes.
func (p *parcel) size() int { return len(p.bytes) - p.front }

// scope is an InstrumentationScope, as a field of ScopeSpans.
var scope = str(field(nil, 1, sizeOf(len(scopeName))), 1, scopeName)

const scopeName = "github.com/dragoman-mt/dragoman"

// close returns what is sent. Nothing is added any more.
func (p *parcel) close() []byte {
	under := protowire.AppendVarint(protowire.AppendTag(p.head, 2, protowire.BytesType), uint64(len(scope)+p.size()))
	under = append(under, scope...)
	head := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(under)+p.size()))
	head = append(head, under...)
	begin := p.front - len(head)
	copy(p.bytes[begin:], head)
	return p.bytes[begin:]
}

// rejected reads how many spans an ExportTraceServiceResponse says were not taken.
func rejected(answer []byte) int64 {
	partial := fieldOf(answer, 1)
	for len(partial) > 0 {
		number, kind, n := protowire.ConsumeTag(partial)
		if n < 0 {
			return 0
		}
		if number == 1 && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(partial[n:])
			if n < 0 {
				return 0
			}
			return max(int64(v), 0)
		}
		skip := protowire.ConsumeFieldValue(number, kind, partial[n:])
		if skip < 0 {
			return 0
		}
		partial = partial[n+skip:]
	}
	return 0
}

// fieldOf returns the first message with that number in b.
func fieldOf(b []byte, want protowire.Number) []byte {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		skip := protowire.ConsumeFieldValue(number, kind, b[n:])
		if skip < 0 {
			return nil
		}
		if number == want && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(b[n:])
			return inner
		}
		b = b[n+skip:]
	}
	return nil
}
