package ricloudtest

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// allowOrigin adds the CORS headers for an allowed origin. It answers a preflight request, and then
// returns true.
func (s *Server) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || isAdmin(r) ||
		!slices.Contains(s.origins, origin) && !slices.Contains(s.origins, "*") {
		return false
	}
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Vary", "Origin")
	header.Set("Access-Control-Expose-Headers", "Content-Range, ETag, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE")
	header.Set("Access-Control-Allow-Headers",
		"Authorization, Content-Type, Ricloud-Await, Range, If-Match, If-None-Match")
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// guardAdmin refuses requests from other machines, unless WithRemoteAdmin allows them, and requests
// from pages of other sites.
func (s *Server) guardAdmin(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == adminPath+"health" {
		s.health(w, r)
		return
	}
	if !s.remoteAdmin && !(isLoopback(r.RemoteAddr) && s.isOwnHost(r.Host)) {
		writeAdmin(w, http.StatusForbidden, object{"error": "the admin API is for this machine " +
			"only; the option WithRemoteAdmin, or the flag -remote-admin, opens it"})
		return
	}
	crossOrigin := http.NewCrossOriginProtection()
	if err := crossOrigin.Check(r); err != nil {
		writeAdmin(w, http.StatusForbidden, object{"error": err.Error()})
		return
	}
	// CrossOriginProtection lets reads pass, but a dump holds secrets.
	site := r.Header.Get("Sec-Fetch-Site")
	if strings.HasPrefix(r.URL.Path, adminPath+"api/") &&
		!slices.Contains([]string{"", "same-origin", "none"}, site) {
		writeAdmin(w, http.StatusForbidden,
			object{"error": "the request comes from a page of another site"})
		return
	}
	s.admin.ServeHTTP(w, r)
}

// isLoopback reports whether an address is on this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// isOwnHost refuses the names that another site might point at this machine.
func (s *Server) isOwnHost(host string) bool {
	public, err := url.Parse(s.publicAPI)
	return isLoopback(host) || err == nil && public.Host != "" && public.Host == host
}
