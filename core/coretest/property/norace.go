//go:build !race

package property

// Raced says that this program has the race detector in it.
const Raced = false
