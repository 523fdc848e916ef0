package broker

import "net"

// SameAddr says whether two addresses host:port cannot both be listened on.
// Port 0 is a free one each time.
func SameAddr(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA == "0" || portA != portB {
		return false
	}
	if hostA == "localhost" {
		hostA = "127.0.0.1"
	}
	if hostB == "localhost" {
		hostB = "127.0.0.1"
	}
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	every := func(host string, ip net.IP) bool { return host == "" || ip != nil && ip.IsUnspecified() }
	if every(hostA, ipA) || every(hostB, ipB) {
		return true
	}
	return hostA == hostB || ipA != nil && ipA.Equal(ipB)
}

// same says whether two listeners cannot both be served.
func (l ListenerConfig) same(other ListenerConfig) bool {
	if l.Unix != "" || other.Unix != "" {
		return l.Unix == other.Unix
	}
	return SameAddr(l.TCP+l.WebSocket, other.TCP+other.WebSocket)
}
