package natsstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	lockFile     = "ingest.lock"
	startTimeout = 30 * time.Second
	maxMemory    = 16 << 20 // of JetStream's streams in memory: there are none
	maxStore     = 1 << 50  // the streams have bounds of their own, which may change
)

// embedded is a NATS server inside the process. It opens no port.
type embedded struct {
	server *server.Server
	lock   *os.File
}

// Embed opens the state in a folder, with a server inside this process. A
// second process on the folder is refused: two servers would destroy it.
func Embed(ctx context.Context, dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	e := &embedded{lock: lock}
	var s *Store
	if where, moved := Moved(dir); moved {
		err = fmt.Errorf("the state in %s has moved to %s: set Config.URL", dir, where)
	} else {
		s, err = e.start(ctx, dir, o)
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return s, nil
}

func (e *embedded) start(ctx context.Context, dir string, o Options) (*Store, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "ricloud-ingest", DontListen: true, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir, JetStreamMaxMemory: maxMemory, JetStreamMaxStore: maxStore,
		SyncAlways: true, DisableJetStreamBanner: true, // confirmed means on disk
	})
	if err != nil {
		return nil, err
	}
	e.server = srv
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		return nil, fmt.Errorf("the NATS server in %s did not start", dir)
	}
	conn, err := nats.Connect("", nats.InProcessServer(srv), nats.Name("ricloud ingest"),
		nats.MaxReconnects(-1), quiet())
	if err != nil {
		return nil, err
	}
	o.Replicas = 1
	s, err := open(ctx, conn, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s.embedded = e
	return s, nil
}

func (e *embedded) close() error {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	return e.lock.Close()
}

// errLocked says that another process has the folder.
func errLocked(name string) error {
	return fmt.Errorf("another process uses the folder %s; one at a time may use an embedded state: "+
		"for several processes, run NATS and set Config.URL", filepath.Dir(name))
}
