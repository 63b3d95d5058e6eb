package door

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
)

// A Call is one call of a foreign door, from its arrival to its answer.
type Call struct {
	Begin  time.Time
	ID     string
	Client string
	Rules  *Rules
	Params *Params
}

// Receive reads a call of a door whose calls may take as long as deadline, and whose
// body has at most mostBody bytes. The errors are those of Rules.Body and ReadParams;
// keyed is the error of Rules.ClientOf, which many protocols answer in a way of their
// own.
func (t *Teller) Receive(w http.ResponseWriter, r *http.Request, deadline time.Duration, mostBody core.Size) (c *Call, keyed, err error) {
	c = &Call{Begin: time.Now(), ID: RequestID(w, r), Rules: t.Service.Rules().Within(deadline)}
	shown := Keys(r, nil)
	body, err := c.Rules.BodyUpTo(w, r, c.Rules.Sender(r, shown, t.Door), mostBody)
	if err != nil {
		return c, nil, err
	}
	defer body.Close()
	if c.Params, err = ReadParams(r, append([]byte(nil), body.Bytes()...)); err != nil {
		return c, nil, err
	}
	c.Client, keyed = c.Rules.ClientOf(r, Keys(r, c.Params), t.Door)
	return c, keyed, nil
}

// Requests returns one request for each of texts. A source that is not known is
// guessed where those who translate need one.
func (c *Call) Requests(texts []string, source, target core.Language, linger time.Duration) []core.Request {
	reqs := make([]core.Request, len(texts))
	seats := core.NewSeats(len(texts))
	needed := source == "" && c.Rules.service.Languages() != nil
	for i, text := range texts {
		reqs[i] = core.Request{
			ID: c.ID, Text: text, Source: source, Target: target, Client: c.Client, Final: true, Lane: core.LaneFinal,
			Since: c.Begin, Linger: linger,
		}
		if len(texts) > 1 {
			reqs[i].Batch = seats[i]
			reqs[i].ID += "." + strconv.Itoa(i)
		}
		if needed {
			if g := detect.Of(text); g.Sure() {
				reqs[i].Source = g.Language
			}
		}
	}
	return reqs
}

// Open opens a tab for reqs, of which c is the call; see Tab.Open.
func (c *Call) Open(ctx context.Context, t *Teller, reqs []core.Request) (*Tab, error) {
	tab := new(Tab)
	if err := tab.Open(ctx, t, c.Rules, c.Client, c.Begin, Characters(reqs)); err != nil {
		return nil, err
	}
	return tab, nil
}

// Context returns ctx with the deadline of c, which began when it arrived.
func (c *Call) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, c.Begin.Add(c.Rules.Deadline))
}

// Detected returns the language that a text is in: what the answer says, else what the
// client said, else a guess, with its confidence from 0 to 1.
func Detected(req *core.Request, res *core.Result) (core.Language, float64) {
	switch {
	case res != nil && res.Source != "":
		return res.Source, 1
	case req.Source != "":
		if g := detect.Of(req.Text); g.Language == req.Source {
			return req.Source, g.Confidence
		}
		return req.Source, 1
	}
	g := detect.Of(req.Text)
	return g.Language, g.Confidence
}

// Under says whether path is one of paths, or below one that ends in a slash.
func Under(path string, paths ...string) bool {
	for _, p := range paths {
		if path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// Match returns the language of list that l is: itself, else the one that differs in
// nothing but a region or script that one of them leaves out. Empty for none.
func Match(l core.Language, list []core.Language) core.Language {
	if l == "" {
		return ""
	}
	near := core.Language("")
	for _, have := range list {
		if have == l {
			return l
		}
		if have.Base() == l.Base() && (near == "" || string(have) == have.Base()) && (string(have) == have.Base() || string(l) == l.Base()) {
			near = have
		}
	}
	return near
}
