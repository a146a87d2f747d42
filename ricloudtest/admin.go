package ricloudtest

import "net/http"

func isAdmin(*http.Request) bool { return false }

func (s *Server) serveAdmin(http.ResponseWriter, *http.Request) {}

func (s *Server) guardAdmin(http.ResponseWriter, *http.Request) {}

func (s *Server) allowOrigin(http.ResponseWriter, *http.Request) bool { return false }
