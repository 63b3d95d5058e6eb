package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// An adminClient asks the admin door of a running gateway. Its errors are whole
// sentences for a terminal.
type adminClient struct {
	base string // without a slash at its end
	name string // what messages call the gateway
	key  string
	http *http.Client
}

// newAdminClient returns a client of the gateway at base, such as
// http://127.0.0.1:8080; key may be empty.
func newAdminClient(base, key string) (*adminClient, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the address of a gateway; write one such as http://127.0.0.1:8080", base)
	}
	base = strings.TrimRight(base, "/")
	return &adminClient{
		base: base, name: base, key: key,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment, // never for this machine
				DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				TLSHandshakeTimeout:   5 * time.Second,
				ResponseHeaderTimeout: 2 * time.Minute, // a reload starts plugins
				DisableKeepAlives:     true,            // a command asks once
			},
			// The key is for the address that was given.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// newSocketClient returns a client of a gateway of this user's, which messages call
// name.
func newSocketClient(name string, dial func(context.Context, string, string) (net.Conn, error)) *adminClient {
	return &adminClient{
		base: "http://localhost", name: name,
		http: &http.Client{Transport: &http.Transport{DialContext: dial, ResponseHeaderTimeout: 2 * time.Minute, DisableKeepAlives: true}},
	}
}

// A refusal is a gateway's answer that it will not.
type refusal struct {
	door.Problem
	base    string
	withKey bool
}

func (r *refusal) Error() string {
	said := "the gateway at " + r.base + " says: " + printable(r.Message)
	switch {
	case r.Kind == core.Unauthorized && !r.withKey:
		return said + "; set DRAGOMAN_KEY, or --key, to one of server.keys with the role operate"
	case r.Kind == core.Unauthorized:
		return said + "; DRAGOMAN_KEY, or --key, is another"
	case r.Kind == core.NotFound && r.Field == "":
		return said + "; is the admin door at another address (server.admin), or the gateway older than this command?"
	}
	return said
}

// printable returns s without what would move a terminal's cursor, for s is what
// somebody else wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// get returns the answer to GET path, which the caller closes. Any status but
// 2xx is an error, a *refusal when a gateway gave it.
func (c *adminClient) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	return c.do(ctx, http.MethodGet, path, query)
}

// post is get with POST. The statuses named are answers, too.
func (c *adminClient) post(ctx context.Context, path string, query url.Values, answers ...int) (*http.Response, error) {
	return c.do(ctx, http.MethodPost, path, query, answers...)
}

// getJSON decodes the answer to GET path into v.
func (c *adminClient) getJSON(ctx context.Context, path string, query url.Values, v any) error {
	res, err := c.get(ctx, path, query)
	return c.decode(res, err, v)
}

// postJSON is getJSON with POST.
func (c *adminClient) postJSON(ctx context.Context, path string, query url.Values, v any) error {
	res, err := c.post(ctx, path, query)
	return c.decode(res, err, v)
}

func (c *adminClient) do(ctx context.Context, method, path string, query url.Values, answers ...int) (*http.Response, error) {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unanswered(ctx, err)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 || slices.Contains(answers, res.StatusCode) {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.refused(res)
}

// maxAnswer is the most that is read of an answer which is not a stream.
const maxAnswer = 16 << 20

func (c *adminClient) decode(res *http.Response, err error, v any) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("the answer of %s cannot be understood: %s", c.name, printable(err.Error()))
	}
	return nil
}

// refused returns what an answer that is no success says.
func (c *adminClient) refused(res *http.Response) error {
	var answer struct{ Error door.Problem }
	if json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&answer) != nil || answer.Error.Kind == "" {
		return fmt.Errorf("%s answers %d %s, and not as a gateway would; does something else listen there?", c.name, res.StatusCode, http.StatusText(res.StatusCode))
	}
	r := &refusal{Problem: answer.Error, base: c.name, withKey: c.key != ""}
	r.Status = res.StatusCode
	return r
}

// unanswered says why there was no answer.
func (c *adminClient) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // the address is named below
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no gateway answers at %s; is it running?", c.name)
	}
	return fmt.Errorf("no gateway answers at %s: %w", c.name, err)
}
