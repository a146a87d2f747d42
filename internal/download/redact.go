package download

import (
	"errors"
	"io"
	"net/url"
	"strings"
)

// minSecret is the length from which the value of a query parameter is
// masked: shorter ones occur too often in ordinary text.
const minSecret = 6

// HideURL returns err without the query of any of the URLs, in any form.
// Transports often return a *url.Error with the whole URL.
func HideURL(err error, urls ...*url.URL) error {
	if err == nil {
		return nil
	}
	err = WithoutURLError(err)
	text := err.Error()
	masked := text
	for _, secret := range secrets(urls) {
		masked = strings.ReplaceAll(masked, secret, "[redacted]")
	}
	if masked == text {
		return err
	}
	original := err
	return &hidden{text: masked, is: func(target error) bool { return errors.Is(original, target) }}
}

// WithoutURLError returns what the *url.Errors in err wrap. Those print the
// whole URL.
func WithoutURLError(err error) error {
	for {
		wrapped, ok := errors.AsType[*url.Error](err)
		if !ok {
			return err
		}
		if err = wrapped.Err; err == nil {
			return errors.New("the transport failed without an error")
		}
	}
}

// HideURLErrors returns err without the URLs of the *url.Errors in it. The clients
// of storage services return those, with the query of a redirect.
func HideURLErrors(err error) error {
	masked := err.Error()
	var urls []*url.URL
	for e := err; ; {
		failed, ok := errors.AsType[*url.Error](e)
		if !ok || failed.Err == nil {
			break
		}
		masked = strings.ReplaceAll(masked, failed.Error(), failed.Err.Error())
		if u, err := url.Parse(failed.URL); err == nil {
			urls = append(urls, u)
		}
		e = failed.Err
	}
	for _, secret := range secrets(urls) {
		masked = strings.ReplaceAll(masked, secret, "[redacted]")
	}
	if masked == err.Error() {
		return err
	}
	original := err
	return &withoutURLs{
		hidden: hidden{text: masked, is: func(target error) bool { return errors.Is(original, target) }},
		err:    HideURL(err, urls...),
	}
}

// withoutURLs is an error that may be unwrapped: what it wraps hides the URLs, too.
type withoutURLs struct {
	hidden

	err error
}

func (e *withoutURLs) Unwrap() error { return e.err }

// hidden is an error whose text is masked. The original is in a closure, where
// no format verb and no errors.As finds it.
type hidden struct {
	text string
	is   func(error) bool
}

func (e *hidden) Error() string        { return e.text }
func (e *hidden) Is(target error) bool { return e.is(target) }

// secrets returns what must not be seen of urls, the longest forms first.
func secrets(urls []*url.URL) []string {
	var all []string
	for _, u := range urls {
		if u.RawQuery != "" {
			all = append(all, u.RawQuery)
		}
		if password, ok := u.User.Password(); ok && password != "" {
			all = append(all, password)
		}
		if name := u.User.Username(); len(name) >= minSecret { // it may be a token
			all = append(all, name)
		}
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			_, value, _ := strings.Cut(pair, "=")
			if len(value) >= minSecret {
				all = append(all, value)
				if plain, err := url.QueryUnescape(value); err == nil && plain != value {
					all = append(all, plain)
				}
			}
		}
	}
	return all
}

// HideBody makes the errors of a body hide URLs, too.
func HideBody(body io.ReadCloser, urls ...*url.URL) io.ReadCloser {
	return &hidingBody{body, urls}
}

type hidingBody struct {
	io.ReadCloser

	urls []*url.URL
}

func (b *hidingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // an io.Reader returns io.EOF bare
		err = HideURL(err, b.urls...)
	}
	return n, err
}
