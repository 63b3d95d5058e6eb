package admin

import (
	"fmt"
	"net/url"

	"github.com/dragoman-mt/dragoman/core"
)

// parameters reads a query, in which each name is given once. Take gets each, in no order, and
// returns what is wrong with it.
func parameters(raw string, take func(name, value string) error) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return wrong("", "the query cannot be understood")
	}
	for name, values := range query {
		if len(values) > 1 {
			return wrong(name, "%.40s is given %d times; a parameter is given once", name, len(values))
		}
		if err := take(name, values[0]); err != nil {
			return err
		}
	}
	return nil
}

// wrong says what is wrong with a parameter.
func wrong(name, format string, args ...any) error {
	return &core.Error{Kind: core.InvalidRequest, Field: name, Detail: fmt.Sprintf(format, args...)}
}
