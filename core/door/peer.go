package door

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

var errNoCaller = errors.New("no connection of this machine has these addresses")

// callerOf returns the user whose process holds the other end of a connection
// within this machine, from and to being its addresses as host:port. On Linux the
// system lists connections in /proc/net/tcp (proc(5)); where it does not, the
// error is that of opening that.
func callerOf(from, to string) (uid int, err error) {
	near, err := netip.ParseAddrPort(from)
	if err != nil {
		return 0, err
	}
	far, err := netip.ParseAddrPort(to)
	if err != nil {
		return 0, err
	}
	for _, table := range []struct {
		file string
		row  func(netip.AddrPort) string
	}{{"/proc/self/net/tcp", row4}, {"/proc/self/net/tcp6", row6}} {
		uid, err = findCaller(table.file, table.row(near), table.row(far))
		if err == nil || !errors.Is(err, errNoCaller) && !os.IsNotExist(err) {
			return uid, err
		}
	}
	return 0, err
}

// established is the state of a connection that both ends hold. Of one that its
// process has closed, the list says that it is root's.
const established = "01"

func findCaller(file, from, to string) (uid int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid ...
		columns := strings.Fields(lines.Text())
		if len(columns) > 7 && columns[1] == from && columns[2] == to && columns[3] == established {
			return strconv.Atoi(columns[7])
		}
	}
	return 0, errNoCaller
}

// row4 and row6 write an address as the lists do: 32 bits at a time, in the order
// of the machine.
func row4(a netip.AddrPort) string {
	ip := a.Addr().Unmap()
	if !ip.Is4() {
		return ""
	}
	bytes := ip.As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(bytes[:]), a.Port())
}

func row6(a netip.AddrPort) string {
	var b strings.Builder
	bytes := a.Addr().As16()
	for i := 0; i < len(bytes); i += 4 {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(bytes[i:]))
	}
	return fmt.Sprintf("%s:%04X", b.String(), a.Port())
}
