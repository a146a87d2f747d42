package ricloudtest

import (
	"embed"
	"net/http"
)

// pageFiles are the files of the page at /_sandbox/.
//
//go:embed page
var pageFiles embed.FS

// addPage serves the page. It loads nothing from elsewhere, and the browser is told so.
func addPage(mux *http.ServeMux) {
	for name, contentType := range map[string]string{
		"index.html": "text/html; charset=utf-8",
		"page.css":   "text/css; charset=utf-8",
		"page.js":    "text/javascript; charset=utf-8",
	} {
		content, _ := pageFiles.ReadFile("page/" + name) // it is embedded
		path := adminPath + name
		if name == "index.html" {
			path = adminPath + "{$}"
		}
		mux.HandleFunc("GET "+path, servePageFile(contentType, content))
	}
}

func servePageFile(contentType string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header.Set("Content-Type", contentType)
		header.Set("Content-Security-Policy",
			"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "+
				"img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-cache")
		_, _ = w.Write(content)
	}
}
