package door

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatCannotBeServedIsRefusedWithTheReason(t *testing.T) {
	bad := Defaults()
	bad.Listen = "0.0.0.0:8080"
	bad.Admin = "192.168.1.5:9090"
	bad.Origins = []string{"https://app.example.com/", "app.example.com", "*", "https://APP.example.com", "https://app.example.com"}
	several := Defaults()
	several.Listen = "8080"
	several.Keys = []Key{{Key: "good"}, {Key: ""}, {Key: "with blank"}}
	same := Defaults()
	same.Admin = same.Listen
	var said strings.Builder
	for _, c := range []Config{bad, several, same} {
		err := c.Check()
		if err == nil {
			t.Fatal("accepted")
		}
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			if f, ok := errors.AsType[*Fault](e); !ok || f.Key == "" {
				t.Errorf("%#v is not a fault of a key", e)
			}
			said.WriteString(e.Error() + "\n")
		}
		said.WriteString("\n")
	}
	golden(t, "faults.golden", said.String())
}

func TestBeyondLoopbackOnlyWithKeys(t *testing.T) {
	for addr, private := range map[string]bool{
		"127.0.0.1:8080": true, "127.8.8.8:1": true, "[::1]:8080": true, "localhost:8080": true, "LOCALHOST:80": true, "[::ffff:127.0.0.1]:1": true,
		":8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "192.168.0.1:8080": false, "example.com:80": false, "localhost.example.com:80": false,
	} {
		c := Defaults()
		c.Listen = addr
		if err := c.Check(); (err == nil) != private {
			t.Errorf("%s without keys: %v", addr, err)
		}
		if got, want := c.AdminPlace(), map[bool]AdminPlace{true: AdminPublic, false: AdminOff}[private]; got != want {
			t.Errorf("%s: admin is %s, want %s", addr, got, want)
		}
		c.Keys = []Key{{Key: "k"}}
		if err := c.Check(); err != nil {
			t.Errorf("%s with a key: %v", addr, err)
		}
	}
}
