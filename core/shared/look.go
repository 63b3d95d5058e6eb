package shared

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// lookTime bounds what Look asks of one store.
const lookTime = 5 * time.Second

// Look asks the stores that c names how they are, and returns what an operator should
// know. The error is that of a store with which nothing would be shared.
func Look(ctx context.Context, c Config) (warnings []string, err error) {
	type store struct{ key, url string }
	stores := []store{{"shared.url", c.URL}}
	if c.URLState != "" && c.URLState != c.URL {
		stores = append(stores, store{"shared.url_state", c.URLState})
	}
	for i, s := range stores {
		o, err := option(s.url)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.key, err)
		}
		client, err := rueidis.NewClient(o)
		if client != nil {
			defer client.Close()
		}
		if err != nil {
			return warnings, fmt.Errorf("%s: %s", s.key, explain(err))
		}
		asking, cancel := context.WithTimeout(ctx, lookTime)
		defer cancel()
		info, err := client.Do(asking, client.B().Info().Build()).ToString()
		if err != nil {
			return warnings, fmt.Errorf("%s: %s", s.key, explain(err))
		}
		facts := parseInfo(info)
		if role := facts["role"]; role == "slave" || role == "replica" {
			return warnings, fmt.Errorf("%s: it is a replica, which takes no writes; name the primary, or Sentinels", s.key)
		}
		if err := client.Do(asking, client.B().Set().Key(c.Prefix+":alive").Value("1").PxMilliseconds(60000).Build()).Error(); err != nil {
			return warnings, fmt.Errorf("%s: %s", s.key, explain(err))
		}
		// Managed ones refuse to tell; then nothing is said of it.
		if saves, err := client.Do(asking, client.B().ConfigGet().Parameter("save").Build()).AsStrMap(); err == nil {
			facts["save"] = saves["save"]
		}
		holdsState := i == len(stores)-1
		for _, w := range judge(facts, holdsState) {
			warnings = append(warnings, s.key+": "+w)
		}
		if w := clock(asking, client); w != "" {
			warnings = append(warnings, s.key+": "+w)
		}
	}
	return warnings, nil
}

// parseInfo reads what INFO answers: name:value, a line each.
func parseInfo(info string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			facts[name] = value
		}
	}
	return facts
}

// judge says what is wrong with a store of which facts are known. HoldsState is one that
// keeps more than answers.
func judge(facts map[string]string, holdsState bool) (warnings []string) {
	version := facts["redis_version"]
	if v := facts["valkey_version"]; v != "" {
		version = ""
	}
	if major, _, _ := strings.Cut(version, "."); version != "" {
		if n, err := strconv.Atoi(major); err == nil && n < 6 {
			warnings = append(warnings, fmt.Sprintf("it is Redis %.20s, and needs to be 6.0 or newer", version))
		}
	}
	policy := facts["maxmemory_policy"]
	switch {
	case holdsState && strings.HasPrefix(policy, "allkeys-"):
		warnings = append(warnings, fmt.Sprintf("its eviction policy %.30s may delete leases and pauses when its memory is full; set maxmemory-policy to volatile-lru, or name another store in shared.url_state", policy))
	case holdsState && policy == "volatile-ttl":
		warnings = append(warnings, "its eviction policy volatile-ttl deletes first what expires first, which are leases and pauses; set maxmemory-policy to volatile-lru, or name another store in shared.url_state")
	case policy == "noeviction" && facts["maxmemory"] != "0":
		warnings = append(warnings, "its eviction policy is noeviction: when its memory is full it takes nothing more, and answers are not shared; set maxmemory-policy to volatile-lru")
	case facts["maxmemory"] == "0":
		warnings = append(warnings, "its memory has no bound: set maxmemory, and maxmemory-policy to volatile-lru, so that answers cannot fill the machine")
	}
	switch {
	case facts["rdb_last_bgsave_status"] == "err", facts["aof_last_write_status"] == "err", facts["aof_last_bgrewrite_status"] == "err":
		warnings = append(warnings, "it could not save its data to disk, and may take no writes until it can; its own log says why. Nothing that is shared needs to be saved: save \"\" and appendonly no")
	case facts["save"] != "", facts["aof_enabled"] == "1":
		warnings = append(warnings, "it saves its data to disk, which nothing that is shared needs: it costs memory and pauses, and a full disk stops all writes; unless others keep something in it, set save \"\" and appendonly no")
	}
	if facts["loading"] == "1" {
		warnings = append(warnings, "it is reading its data from disk")
	}
	return warnings
}

// apart is how far the clock of a store may be from ours.
const apart = 5 * time.Second

// clock says when the clock of the store is far from ours. Leases do not mind, the age of
// answers does.
func clock(ctx context.Context, client rueidis.Client) string {
	began := time.Now()
	t, err := client.Do(ctx, client.B().Time().Build()).AsStrSlice()
	if err != nil || len(t) != 2 {
		return "it does not tell its time"
	}
	seconds, _ := strconv.ParseInt(t[0], 10, 64)
	ahead := time.Unix(seconds, 0).Sub(began)
	if math.Abs(float64(ahead)) > float64(apart) {
		return fmt.Sprintf("its clock is %v away from that of this machine; let both follow NTP", ahead.Round(time.Second))
	}
	return ""
}
