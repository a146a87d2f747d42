package sandboxprogram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/reincubate/ricloud-go/ricloudtest"
)

// check prints how fixtures differ from docs/contract.md.
func check(dir string, out io.Writer) error {
	found, err := ricloudtest.CheckDir(dir)
	if err != nil {
		return err
	}
	for _, drift := range found {
		if _, err := fmt.Fprintln(out, drift); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("%d differences from the contract", len(found))
	}
	_, err = fmt.Fprintln(out, "no differences from the contract")
	return err
}

// recordUpstream is a proxy to the real API that records requests and answers.
func (set *settings) recordUpstream(ctx context.Context, out, errs io.Writer) error {
	upstream, err := url.Parse(set.upstream)
	if err != nil || upstream.Host == "" {
		return fmt.Errorf("-upstream %q: want an absolute URL", set.upstream)
	}
	if err := os.MkdirAll(set.record, 0o700); err != nil {
		return fmt.Errorf("-record: %w", err)
	}
	if err := checkWritable(set.record); err != nil {
		return fmt.Errorf("-record: %w", err)
	}
	l, err := set.listen(ctx, set.addr)
	if err != nil {
		return err
	}
	transport := &http.Transport{ResponseHeaderTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	recorder := ricloudtest.Record(set.record, transport)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Transport: recorder,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Header.Del("Accept-Encoding") // so that answers can be read
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			_, _ = fmt.Fprintln(errs, "ricloud-sandbox:", err)
			w.WriteHeader(http.StatusBadGateway)
		},
	}}
	if _, err := fmt.Fprintf(out, "URL      http://%s\nUpstream %s\nFixtures %s\n",
		reachable(l.Addr()), upstream, set.record); err != nil {
		return errors.Join(err, l.Close())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	<-ctx.Done()
	err = server.Close()
	<-ended
	return errors.Join(err, recorder.Err())
}
