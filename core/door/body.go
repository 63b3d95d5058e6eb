package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of the bodies that are being received at one time: how many, and how
// many bytes they hold together, over all clients and of one. A client is a key,
// or without keys an address, which may be that of a proxy with many behind it:
// so one has half of everything, and what small bodies hold, up to smallBody
// each, is not in the bytes: whoever sends large ones slowly holds none of those
// up.
const (
	mostBodies, clientBodies       = 4096, 2048
	mostBodyBytes, clientBodyBytes = 64 << 20, 32 << 20

	smallBody = 16 << 10
	// bodyWait is how long a call waits for room, before its body is read, or for
	// more of it. A burst fits in when that before it has been read.
	bodyWait = 2 * time.Second
	// keptBody is the largest buffer that is kept for another body.
	keptBody = 64 << 10
)

// A body must bring bodyStep bytes, or its end, within each bodyStall, and its end
// within slowBody.
const (
	bodyStall = 5 * time.Second
	bodyStep  = 4 << 10
)

// bodies hands out the room for bodies that are being received. It is safe for
// concurrent use.
type bodies struct {
	all    room
	kept   sync.Pool // of *Body
	shares sync.Pool // of *share that are nobody's

	mu      sync.Mutex
	clients map[string]*share
}

// A room bounds the number of bodies and their bytes. Whoever waits for some is
// served in the order of coming.
type room struct{ number, bytes *semaphore.Weighted }

// A share is the room of one client, which is there while it sends.
type share struct {
	room
	users int // guarded by bodies.mu
}

func newBodies() *bodies {
	return &bodies{
		all:  room{semaphore.NewWeighted(mostBodies), semaphore.NewWeighted(mostBodyBytes)},
		kept: sync.Pool{New: func() any { return new(Body) }},
		shares: sync.Pool{New: func() any {
			return &share{room: room{semaphore.NewWeighted(clientBodies), semaphore.NewWeighted(clientBodyBytes)}}
		}},
		clients: map[string]*share{},
	}
}

func (b *bodies) share(client string) *share {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.clients[client]
	if s == nil {
		s = b.shares.Get().(*share)
		b.clients[client] = s
	}
	s.users++
	return s
}

func (b *bodies) leave(client string, s *share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.users--; s.users == 0 { // and all that was taken of it has been given back
		delete(b.clients, client)
		b.shares.Put(s)
	}
}

// A Body is the body of one call. It holds a part of the room that all have
// until it is closed, so whoever reads it copies what is to last.
type Body struct {
	bodies *bodies
	client string
	share  *share
	number bool  // it counts as one
	held   int64 // bytes of the room
	beside int64 // bytes that it takes besides itself
	buf    []byte
}

// Body receives the body of call, which is that of client, and unpacks it when
// Content-Encoding says that it is packed. The errors are: too_large for more than
// server.max_body, packed or not; overloaded when there is no room for it, which
// is found before it is read wherever its length is announced;
// unsupported_encoding; invalid_request; deadline_exceeded for one that comes too
// slowly; canceled. Whoever gets a Body closes it.
func (r *Rules) Body(w http.ResponseWriter, call *http.Request, client string) (*Body, error) {
	return r.BodyUpTo(w, call, client, r.MaxBody)
}

// BodyUpTo is Body for a door with a limit of its own.
func (r *Rules) BodyUpTo(w http.ResponseWriter, call *http.Request, client string, most core.Size) (*Body, error) {
	limit := int64(most)
	packed, err := encoding(call.Header)
	if err == nil && call.ContentLength > limit {
		err = r.tooLarge(most)
	}
	if err != nil {
		refuseBody(w)
		return nil, err
	}
	s := r.service.bodies
	b := s.kept.Get().(*Body)
	b.bodies, b.client, b.share = s, client, s.share(client)
	err = b.enter(call.Context())
	if err == nil && packed == "" && call.ContentLength > 0 {
		err = b.charge(call.Context(), call.ContentLength)
	}
	if err == nil {
		err = b.receive(w, call, packed, most)
		if core.KindOf(err) == core.TooLarge {
			err = r.tooLarge(most)
		}
	}
	if err != nil {
		if core.KindOf(err) != core.Canceled {
			refuseBody(w)
		}
		b.Close()
		return nil, err
	}
	return b, nil
}

// refuseBody has the connection closed rather than the rest of the body read.
func refuseBody(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

// Bytes returns what was received, until Close.
func (b *Body) Bytes() []byte { return b.buf }

// Close gives the room back.
func (b *Body) Close() {
	if b.held > 0 {
		b.share.bytes.Release(b.held)
		b.bodies.all.bytes.Release(b.held)
	}
	if b.number {
		b.share.number.Release(1)
		b.bodies.all.number.Release(1)
	}
	s := b.bodies
	s.leave(b.client, b.share)
	kept := b.buf[:0]
	if cap(kept) > keptBody {
		kept = nil
	}
	*b = Body{buf: kept}
	s.kept.Put(b)
}

// enter counts b as one of the bodies that are being received.
func (b *Body) enter(ctx context.Context) error {
	if err := wait(ctx, b.share.number, b.bodies.all.number, 1); err != nil {
		return err
	}
	b.number = true
	return nil
}

// charge makes b hold the room for a body of n bytes. One that is larger than the share of a
// client takes the whole of it.
func (b *Body) charge(ctx context.Context, n int64) error {
	more := min(n-smallBody+b.beside, clientBodyBytes) - b.held
	if more <= 0 {
		return nil
	}
	if err := wait(ctx, b.share.bytes, b.bodies.all.bytes, more); err != nil {
		return err
	}
	b.held += more
	return nil
}

// wait takes n of one and of all, in that order: who waits for his own share
// stands in nobody's way.
func wait(ctx context.Context, one, all *semaphore.Weighted, n int64) error {
	if one.TryAcquire(n) {
		if all.TryAcquire(n) {
			return nil
		}
		one.Release(n)
	}
	soon, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	if one.Acquire(soon, n) != nil {
		return noRoom(ctx, "this client sends more at the same time than one may")
	}
	if all.Acquire(soon, n) != nil {
		one.Release(n)
		return noRoom(ctx, "more is being sent to the gateway than it takes at the same time")
	}
	return nil
}

func noRoom(ctx context.Context, why string) error {
	if ctx.Err() != nil {
		return core.ContextError(ctx, "door")
	}
	return &core.Error{Kind: core.Overloaded, Stage: "door", Detail: why + "; send it again in a moment", Retryable: true, RetryAfter: time.Second}
}

// receive reads the body to its end, as net/http needs it to notice when the
// client leaves.
func (b *Body) receive(w http.ResponseWriter, call *http.Request, packed string, limit core.Size) error {
	ctx := call.Context()
	sent := &sending{body: http.MaxBytesReader(w, call.Body, int64(limit)), control: http.NewResponseController(w), until: time.Now().Add(slowBody)}
	var content io.Reader = sent
	if packed != "" {
		b.beside = unpackRoom
		content = unpack(packed, sent)
	}
	// A body whose length is not known can be as long as any.
	most := int64(limit)
	if packed == "" && call.ContentLength >= 0 {
		most = call.ContentLength
	}
	for {
		if len(b.buf) == cap(b.buf) {
			if err := b.grow(ctx, most); err != nil {
				return err
			}
		}
		n, err := content.Read(b.buf[len(b.buf):cap(b.buf)])
		b.buf = b.buf[:len(b.buf)+n]
		switch {
		case int64(len(b.buf)) > int64(limit):
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil && sent.err != nil && sent.err != io.EOF:
			return notSent(ctx, sent.err)
		case err != nil:
			return &core.Error{Kind: core.InvalidRequest, Field: "Content-Encoding", Detail: fmt.Sprintf("the body is not what Content-Encoding: %s says: it is broken, or cut off", packed)}
		}
	}
}

// grow makes room in the buffer: twice what it has, and no more than most. So a
// client costs what it sends, not what it announces.
func (b *Body) grow(ctx context.Context, most int64) error {
	const least = 4 << 10
	size := min(max(2*int64(len(b.buf)), least), most)
	if err := b.charge(ctx, size); err != nil {
		return err
	}
	// One byte more, for what is one too many and for the end.
	b.buf = append(make([]byte, 0, max(size, int64(len(b.buf)))+1), b.buf...)
	return nil
}

// notSent says why a body did not come.
func notSent(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &core.Error{Kind: core.DeadlineExceeded, Stage: "door", Detail: "the body did not arrive in time", Cause: err}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
		return &core.Error{Kind: core.Canceled, Stage: "door", Detail: "the client left while it sent the body", Cause: err}
	}
	return &core.Error{Kind: core.InvalidRequest, Stage: "door", Detail: "the body cannot be read", Cause: err}
}

// tooLarge names the limit that a body is over, and where it was set.
func (r *Rules) tooLarge(limit core.Size) error {
	detail := fmt.Sprintf("the body has more than %s; that is the most that is taken", limit)
	if limit == r.MaxBody {
		detail += " (server.max_body)"
	}
	return &core.Error{Kind: core.TooLarge, Detail: detail}
}

var errTooLarge = &core.Error{Kind: core.TooLarge}

// A sending is a body as the client sends it, cut when that is too slow. Of an
// error it keeps which was the client's: an unpacker has errors of its own.
type sending struct {
	body    io.Reader
	control *http.ResponseController
	until   time.Time // by when all of it must be there

	bounded bool // the connection has a deadline for this step
	step    int  // bytes since the step began
	err     error
}

func (s *sending) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if !s.bounded {
		by := time.Now().Add(bodyStall)
		if s.until.Before(by) {
			by = s.until
		}
		if err := s.control.SetReadDeadline(by); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.err = err
			return 0, err
		}
		s.bounded, s.step = true, 0
	}
	n, err := s.body.Read(p)
	s.err = err
	if s.step += n; s.step >= bodyStep {
		s.bounded = false
	}
	return n, err
}
