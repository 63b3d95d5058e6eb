package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// recent answers what is looked back at, latest first.
func (a *admin) recent(w http.ResponseWriter, r *http.Request) {
	keep, limit, err := recentQuery(r.URL.RawQuery)
	if err != nil {
		door.WriteError(w, r, err)
		return
	}
	all := slices.DeleteFunc(a.o.Recent(), func(p door.Past) bool { return !keep(p) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	if all == nil {
		all = []door.Past{}
	}
	door.WriteJSON(w, http.StatusOK, map[string]any{"recent": all})
}

// recentQuery reads what is asked for; limit 0 is none.
func recentQuery(raw string) (keep func(door.Past) bool, limit int, err error) {
	wrong := func(field, format string, args ...any) (func(door.Past) bool, int, error) {
		return nil, 0, &core.Error{Kind: core.InvalidRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return wrong("", "the query cannot be understood")
	}
	for name, values := range query {
		value := values[0]
		if len(values) > 1 {
			return wrong(name, "%.40s is given %d times; give it once", name, len(values))
		}
		switch name {
		case "reason":
			if !slices.Contains(door.Reasons, door.Reason(value)) {
				return wrong(name, "reason is slow, failed, fell_over or refused, not %.40q", value)
			}
		case "session", "client", "request":
		case "limit":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 {
				return wrong(name, "limit is a number from 1, not %.40q", value)
			}
		default:
			return wrong("", "there is no %.40q to ask for; there are reason, session, client, request and limit", name)
		}
	}
	reason, session, client, request := door.Reason(query.Get("reason")), query.Get("session"), query.Get("client"), query.Get("request")
	return func(p door.Past) bool {
		return (reason == "" || p.Reason == reason) && (session == "" || p.Session == session) && (client == "" || p.Client == client) &&
			(request == "" || strings.HasSuffix(p.Request, request))
	}, limit, nil
}
