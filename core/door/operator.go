package door

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// An AdminPlace is where the admin door is served over TCP.
type AdminPlace string

const (
	AdminOwn    AdminPlace = "own"    // on server.admin
	AdminPublic AdminPlace = "public" // on server.listen, for whom mayOperate says
	AdminOff    AdminPlace = "off"    // nowhere: there are keys, and none is an operator's
)

// AdminPlace says where the admin door is served over TCP.
func (c Config) AdminPlace() AdminPlace {
	switch {
	case c.Admin != "":
		return AdminOwn
	case c.has(Operate) || len(c.Keys) == 0 && loopback(c.Listen):
		return AdminPublic
	}
	return AdminOff
}

// mayOperate says why the call may not watch or change the gateway; nil when it
// may. Listener is the address in the configuration on which it came: of
// server.listen, or of server.admin when own is set. The table in the README of
// core/door/admin is checked against it by a test.
//
// That a call comes from this machine says little where the doors are: a reverse
// proxy here passes other people's calls on. So whatever a proxy gives away turns
// a call down, and with keys, which say that not everybody here is trusted, only
// an operator's key will do.
func (r *Rules) mayOperate(call *http.Request, own bool) error {
	listener := r.Listen
	if own {
		listener = r.Admin
	}
	switch {
	case r.has(Operate):
		shown := Bearer(call)
		if shown == "" && r.visitor(call) != nil {
			return byVisit(call)
		}
		k, err := r.identify(call, shown)
		if err == nil && !k.operates {
			err = notOperating(translatesOnly)
		}
		return err
	case len(r.Keys) > 0 && !own || !loopback(listener):
		return notOperating("the operators' door is off here, because none of server.keys has the role operate")
	}
	if why := passedOn(call); why != "" {
		return notOperating(why)
	}
	if own {
		return nil
	}
	if !call.ProtoAtLeast(1, 1) {
		return notOperating("a call in " + call.Proto + " is what a reverse proxy sends")
	}
	return ownProcess(call)
}

func notOperating(why string) error {
	return &core.Error{Kind: core.Forbidden, Detail: why + "; on its own machine the gateway's user needs no key for `dragoman status` and the like, and others need an operator's key, or server.admin"}
}

// passedOn says what shows that a call was not made here for a name of this
// machine, but passed on; empty when nothing does.
func passedOn(call *http.Request) string {
	if at, err := netip.ParseAddr(host(call.RemoteAddr)); err != nil || !at.Unmap().IsLoopback() {
		return "the call comes from another machine"
	}
	for name := range call.Header {
		if forwarding[name] || strings.HasPrefix(name, "X-Forwarded") || strings.HasPrefix(name, "X-Original-Forwarded") {
			return "the call was passed on by a proxy (" + name + ")"
		}
	}
	// Pages of server.origins may translate, in the browser of a user who might
	// operate.
	if why := elsewhere(call) + otherOrigin(call); why != "" {
		return fromElsewhere
	}
	name := call.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	// A call without a name, as HTTP/1.0 allows, comes from no browser.
	if name != "" && !loopbackHost(name) {
		return fmt.Sprintf("the call is for the name %.80q, which is not this machine's alone", call.Host)
	}
	return ""
}

// forwarding are the headers by which proxies say for whom they call, beside those
// that begin with X-Forwarded.
var forwarding = map[string]bool{
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true, "True-Client-Ip": true, "Cf-Connecting-Ip": true,
	"X-Proxyuser-Ip": true, "Cdn-Loop": true,
}

// ownProcess refuses a call from a process of another user than the gateway's, root
// apart: servers that pass calls on have users of their own. Where the system does
// not say whose it is, what a call shows has to do.
func ownProcess(call *http.Request) error {
	to, _ := call.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if to == nil {
		return notOperating("whose process the call comes from cannot be told")
	}
	uid, err := callerOf(call.RemoteAddr, to.String())
	switch {
	case os.IsNotExist(err) || os.IsPermission(err):
		return nil
	case err != nil:
		return notOperating("whose process the call comes from cannot be told")
	case uid != 0 && uid != os.Geteuid():
		return notOperating(fmt.Sprintf("the call comes from a process of another user (%d), as a reverse proxy's would", uid))
	}
	return nil
}
