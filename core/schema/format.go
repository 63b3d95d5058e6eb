package schema

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// formatted says whether text has a format. A format that nobody here knows every text has,
// as the standard says.
func formatted(format, text string) bool {
	switch format {
	case fields.DurationFormat:
		_, err := time.ParseDuration(text)
		return err == nil
	case fields.SizeFormat:
		_, err := core.ParseSize(text)
		return err == nil
	case "date-time":
		_, err := time.Parse(time.RFC3339, strings.ToUpper(text))
		return err == nil
	case "date":
		_, err := time.Parse(time.DateOnly, text)
		return err == nil
	case "time":
		_, err := time.Parse("15:04:05Z07:00", strings.ToUpper(text))
		return err == nil
	case "duration":
		return matches(`^P(\d+W|`+days+`(T`+clock+`)?|T`+clock+`)$`, text)
	case "email":
		at := strings.LastIndexByte(text, '@')
		return at > 0 && !strings.ContainsAny(text[:at], " @") && host(strings.Trim(text[at+1:], "[]"))
	case "hostname":
		return matches(hostname, text)
	case "ipv4":
		addr, err := netip.ParseAddr(text)
		return err == nil && addr.Is4()
	case "ipv6":
		addr, err := netip.ParseAddr(text)
		return err == nil && addr.Is6() && addr.Zone() == ""
	case "uri", "iri":
		u, err := url.Parse(text)
		return err == nil && u.IsAbs() && !strings.Contains(text, `\`)
	case "uri-reference", "iri-reference":
		_, err := url.Parse(text)
		return err == nil && !strings.Contains(text, `\`)
	case "uuid":
		return matches(`^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$`, text)
	case "regex":
		_, err := regexp.Compile(text)
		return err == nil
	case "json-pointer":
		return matches(`^(/([^~]|~[01])*)*$`, text)
	}
	return true
}

const (
	hostname = `^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`
	days     = `(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)`
	clock    = `(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)`
)

func host(name string) bool {
	_, err := netip.ParseAddr(strings.TrimPrefix(name, "IPv6:"))
	return err == nil || matches(hostname, name)
}

// matches compiles a pattern for one look: hardly any schema names such a format.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
