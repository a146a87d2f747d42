// Twofactor is a small web service that connects iCloud accounts. As in every
// real backend, the login and the two-factor code arrive in two requests, perhaps
// minutes apart. The service therefore calls Sessions.Create and Sessions.Wait
// itself, and not Sessions.Login.
//
//	go run ./examples/twofactor
//
// It runs against a sandbox inside the program; sign in as
// jane.appleseed@example.com with password hunter2 and code 123456. With
// RICLOUD_TOKEN set, it runs against the live API.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // no deferred call matters at the end
	}
}

func run(ctx context.Context, addr string) error {
	client, closeClient, err := newClient()
	if err != nil {
		return err
	}
	defer closeClient()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Connect an account at http://%s/\n", listener.Addr())
	server := &http.Server{Handler: newService(client).routes(), ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newClient() (*ricloud.Client, func(), error) {
	if os.Getenv("RICLOUD_TOKEN") != "" {
		client, err := ricloud.NewClientFromEnv()
		return client, func() {}, err
	}
	sandbox := ricloudtest.NewServer()
	return sandbox.Client(), sandbox.Close, nil
}

const (
	loginLifetime = 10 * time.Minute // how long a password waits for its code
	loginTimeout  = time.Minute      // how long a browser waits for an answer
	cookieName    = "login"
)

// login is an account between its two requests. The second session needs password
// and code together, so the password is kept until the code arrives: in memory
// only, and not for long.
type login struct {
	params  ricloud.SessionCreateParams
	attempt int // codes tried
	expires time.Time
}

// service is the web service. A service on several machines keeps logins in a
// store they share, encrypted.
type service struct {
	client *ricloud.Client
	now    func() time.Time

	mu     sync.Mutex
	logins map[string]*login
}

func newService(client *ricloud.Client) *service {
	return &service{client: client, now: time.Now, logins: map[string]*login{}}
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		render(w, http.StatusOK, page{})
	})
	mux.HandleFunc("POST /login", s.startLogin)
	mux.HandleFunc("POST /code", s.enterCode)
	return http.NewCrossOriginProtection().Handler(mux)
}

// startLogin is the first request: an account and its password.
func (s *service) startLogin(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), loginTimeout)
	defer cancel()
	identifier := r.PostFormValue("identifier")
	// Your own name for the person who is signed in to your service.
	user, err := s.client.Users.Create(ctx, ricloud.UserCreateParams{Identifier: "customer-42"})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.connect(ctx, w, r, &login{params: ricloud.SessionCreateParams{
		Source: ricloud.SourceParams{
			User: user.ID, Type: ricloud.SourceICloudAccount,
			Identifier: identifier,
		},
		Payload: ricloud.SessionPayload{Password: ricloud.NewSecret(r.PostFormValue("password"))},
	}})
}

// enterCode is the second request: the code that the account's owner was sent.
func (s *service) enterCode(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), loginTimeout)
	defer cancel()
	pending := s.take(r)
	if pending == nil {
		render(w, http.StatusGone, page{Problem: "That took too long. Please begin again."})
		return
	}
	pending.params.Payload.Code = ricloud.NewSecret(r.PostFormValue("code"))
	pending.attempt++
	s.connect(ctx, w, r, pending)
}

// connect creates a session and shows the outcome.
func (s *service) connect(ctx context.Context, w http.ResponseWriter, r *http.Request, l *login) {
	session, err := s.client.Sessions.Create(ctx, l.params, ricloud.WithAwait(10*time.Second))
	if err == nil {
		session, err = s.client.Sessions.Wait(ctx, session.ID)
	}
	switch {
	case err == nil:
		setCookie(w, "", -1)
		render(w, http.StatusOK, page{Connected: session})
	case errors.Is(err, ricloud.ErrCodeRequired) && l.attempt < ricloud.MaxCodeAttempts:
		s.keep(w, l)
		p := page{AskCode: true}
		if l.attempt > 0 {
			p.Problem = "That code was not right. A new one was sent."
		}
		render(w, http.StatusOK, p)
	default:
		s.fail(w, r, err)
	}
}

// fail logs the error, and shows the browser what the user can do.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	//nolint:sloglint // a program may use the default logger
	slog.ErrorContext(r.Context(), "connecting an account", slog.Any("error", err))
	p := page{Problem: "The account could not be connected. Please try again later."}
	status := http.StatusBadGateway
	if _, ok := errors.AsType[*ricloud.ParamError](err); ok {
		p.Problem, status = "Please fill in every field.", http.StatusBadRequest
	}
	if state, ok := errors.AsType[*ricloud.StateError](err); ok {
		p.Problem, status = fmt.Sprintf("iCloud refused the login (%s).",
			cmp.Or(state.Code, ricloud.ErrorCode(state.State))), http.StatusForbidden
	}
	render(w, status, p)
}

// keep stores a login under a name that only this browser knows.
func (s *service) keep(w http.ResponseWriter, l *login) {
	name := rand.Text()
	l.expires = s.now().Add(loginLifetime)
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, old := range s.logins {
		if s.now().After(old.expires) {
			delete(s.logins, other)
		}
	}
	s.logins[name] = l
	setCookie(w, name, int(loginLifetime.Seconds()))
}

// setCookie sets the login's cookie. Browsers take loopback for secure.
func setCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, MaxAge: maxAge,
		HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	})
}

// take returns a login and forgets it, so that a form sent twice does not
// create two sessions; nil if there is none.
func (s *service) take(r *http.Request) *login {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logins[cookie.Value]
	delete(s.logins, cookie.Value)
	if l == nil || s.now().After(l.expires) {
		return nil
	}
	return l
}

// page is what the template shows.
type page struct {
	Problem   string
	AskCode   bool
	Connected *ricloud.Session
}

//go:embed page.html
var files embed.FS

//nolint:gochecknoglobals // parsed once, read only
var pageTemplate = template.Must(template.ParseFS(files, "page.html"))

func render(w http.ResponseWriter, status int, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, p)
}
