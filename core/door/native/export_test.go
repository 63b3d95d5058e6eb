package native

import "time"

// Impatient sets how long a stream may be silent and how long its client may
// leave no room; it returns d.
func (d *Door) Impatient(heartbeat, patience time.Duration) *Door {
	d.heartbeat, d.patience = heartbeat, patience
	return d
}
