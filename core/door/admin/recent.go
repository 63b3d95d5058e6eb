package admin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

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
	var reason door.Reason
	var session, client, request string
	err = parameters(raw, func(name, value string) (err error) {
		switch name {
		case "reason":
			if reason = door.Reason(value); !slices.Contains(door.Reasons, reason) {
				return wrong(name, "reason is slow, failed, fell_over or refused, not %.40q", value)
			}
		case "session":
			session = value
		case "client":
			client = value
		case "request":
			request = value
		case "limit":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 {
				return wrong(name, "limit is a number from 1, not %.40q", value)
			}
		default:
			return wrong("", "there is no %.40q to ask for; there are reason, session, client, request and limit", name)
		}
		return nil
	})
	return func(p door.Past) bool {
		return (reason == "" || p.Reason == reason) && (session == "" || p.Session == session) && (client == "" || p.Client == client) &&
			(request == "" || strings.HasSuffix(p.Request, request))
	}, limit, err
}
