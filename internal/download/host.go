package download

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Policy says where signed URLs and redirects may lead.
type Policy struct {
	HTTP  bool // to http:// on any host
	Local bool // to this machine and to private networks; http:// then is allowed to this machine, too
}

// Check returns an error if target must not be read. The error does not show the
// path and the query.
func (p Policy) Check(target *url.URL) error {
	host := target.Hostname()
	switch {
	case host == "" || target.Scheme != "https" && target.Scheme != "http":
		return errors.New("is not an https:// URL")
	case strings.IndexFunc(host, notASCII) >= 0: // net/http would connect to another name than this
		return errors.New("has a host that is not ASCII")
	case !p.Local && isLocalHost(host):
		return fmt.Errorf("leads to %s, which is not on the public Internet", host)
	case target.Scheme == "http" && !p.HTTP && !isLoopbackHost(host):
		return fmt.Errorf("leads to http://%s, which is not encrypted", host)
	}
	return nil
}

func notASCII(r rune) bool { return r > unicode.MaxASCII }

// isLocalHost reports whether a name or an address, in any spelling that a
// resolver may accept, is this machine or in a private network.
func isLocalHost(host string) bool {
	host = strings.ToLower(strings.TrimRight(host, "."))
	addr, ok := parseAddr(host)
	// "0127.0.0.1" is 87.0.0.1 to one resolver, and 127.0.0.1 to another.
	decimal, alsoOK := parseAddrIn(host, 10) //nolint:mnd // ten digits
	return ok && isLocal(addr) || alsoOK && isLocal(decimal) || !ok && isLocalName(host)
}

func isLocalName(host string) bool {
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		strings.HasPrefix(host, "localhost.localdomain") || strings.HasPrefix(host, "localhost4") ||
		strings.HasPrefix(host, "localhost6") || strings.HasPrefix(host, "ip6-")
}

func isLoopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimRight(host, "."))
	if addr, ok := parseAddr(host); ok {
		return addr.IsLoopback()
	}
	return isLocalName(host)
}

// parseAddr reads an address, also as inet_aton(3) does: "127.1", "0x7f000001"
// and "2130706433" are addresses to some resolvers.
func parseAddr(host string) (netip.Addr, bool) { return parseAddrIn(host, 0) }

// parseAddrIn reads the numbers of an address in a base; 0 is that of inet_aton.
func parseAddrIn(host string, base int) (netip.Addr, bool) {
	host, _, _ = strings.Cut(host, "%") // the zone
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		if strings.Contains(part, "_") {
			return netip.Addr{}, false
		}
		n, err := strconv.ParseUint(part, base, 64)
		if err != nil { // "010" is octal to ParseUint as well, "08" is nothing
			return netip.Addr{}, false
		}
		if last := i == len(parts)-1; last {
			value |= n
		} else if n > 255 {
			return netip.Addr{}, false
		} else {
			value |= n << (24 - 8*i)
		}
	}
	if value > 1<<32-1 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{
		byte(value >> 24), byte(value >> 16), byte(value >> 8),
		byte(value),
	}), true
}

// isLocal reports whether addr is this machine, in a private network, or
// reachable on this link only, such as a cloud's metadata service.
func isLocal(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if !addr.IsGlobalUnicast() || addr.IsPrivate() { // loopback, unspecified, link-local, multicast
		return true
	}
	for _, prefix := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "240.0.0.0/4",
		"::/96", "fec0::/10", "64:ff9b:1::/48",
	} {
		if netip.MustParsePrefix(prefix).Contains(addr) {
			return true
		}
	}
	if addr.Is6() {
		b := addr.As16()
		switch { // an IPv4 address within: NAT64, SIIT and 6to4
		case netip.MustParsePrefix("64:ff9b::/96").Contains(addr),
			netip.MustParsePrefix("::ffff:0:0:0/96").Contains(addr):
			return isLocal(netip.AddrFrom4([4]byte(b[12:16])))
		case netip.MustParsePrefix("2002::/16").Contains(addr):
			return isLocal(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return isOwn(addr)
}

// isOwn reports whether an interface of this machine has addr.
func isOwn(addr netip.Addr) bool {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}

// guardKey is the context key of the host that must not be local.
type guardKey struct{}

// Guard makes the connections of a request refuse local addresses, whatever
// their host name is. It works with a transport that dials with DialContext.
func (p Policy) Guard(ctx context.Context, target *url.URL) context.Context {
	if p.Local {
		return ctx
	}
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	return context.WithValue(ctx, guardKey{}, net.JoinHostPort(target.Hostname(), port))
}

// DialContext returns the dialer of a transport. It refuses local addresses
// for a host that Guard has named. The address of a proxy is not checked.
func DialContext(
	timeout, keepAlive time.Duration,
) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
	guarded := &net.Dialer{
		Timeout: timeout, KeepAlive: keepAlive,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil || isLocal(at.Addr()) {
				return &LocalError{}
			}
			return nil
		},
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if guard, _ := ctx.Value(guardKey{}).(string); guard != "" && strings.EqualFold(guard, address) {
			return guarded.DialContext(ctx, network, address)
		}
		return plain.DialContext(ctx, network, address)
	}
}

// LocalError reports that the name of a storage host leads to this machine or
// to a private network.
type LocalError struct{}

// Error says where the name leads.
func (*LocalError) Error() string {
	return "the name leads to an address that is not on the public Internet"
}
