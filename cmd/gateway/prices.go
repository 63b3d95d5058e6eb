package gateway

import (
	"reflect"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// pricesOf returns the prices of the providers of a file that have one: a field Price of
// their configuration, whatever their kind.
func pricesOf(file *config.File) map[string]usage.Price {
	all := map[string]usage.Price{}
	for _, p := range file.Providers {
		v := reflect.Indirect(reflect.ValueOf(p.Config))
		if v.Kind() != reflect.Struct {
			continue
		}
		price, ok := fieldOf[*core.Price](v, "Price")
		if !ok || price == nil {
			continue
		}
		u := usage.Price{Input: price.Input, Output: price.Output, CachedInput: price.Input, Characters: price.PerMillion == "characters", Currency: price.Currency}
		if price.CachedInput != nil {
			u.CachedInput = *price.CachedInput
		}
		if u.Currency == "" {
			u.Currency = "USD"
		}
		all[p.Name] = u
	}
	return all
}

func fieldOf[T any](v reflect.Value, name string) (value T, ok bool) {
	if f := v.FieldByName(name); f.IsValid() && f.CanInterface() {
		value, ok = f.Interface().(T)
	}
	return value, ok
}
