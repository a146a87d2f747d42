package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// child is a process that can be killed and started again.
type child struct {
	role   string
	script script
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{}
}

// launch starts a process.
func (w *world) launch(c *child) error {
	body, err := json.Marshal(c.script) //nolint:gosec // secrets of a sandbox, for a child of ours
	if err != nil {
		return err
	}
	if c.log == nil {
		if c.log, err = os.Create(filepath.Join(w.dir, c.script.Name+".log")); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.cmd = exec.Command(self) //nolint:gosec,noctx // itself; it is killed by hand
	c.cmd.Env = append(os.Environ(), roleVariable+"="+c.role, scriptVariable+"="+string(body))
	c.cmd.Stderr, c.cmd.Stdout = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.exited = make(chan struct{})
	cmd := c.cmd
	go func(exited chan struct{}) {
		_ = cmd.Wait()
		w.mu.Lock()
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if c.role == "worker" {
			w.cpu += used
		} else {
			w.nats += used
		}
		w.mu.Unlock()
		close(exited)
	}(c.exited)
	return nil
}

// kill ends a process as a crash does.
func (w *world) kill(c *child) {
	w.mu.Lock()
	w.dead[c.cmd.Process.Pid] = true
	w.mu.Unlock()
	_ = c.cmd.Process.Kill()
	<-c.exited
	w.killed = append(w.killed, death{c.script.Name, time.Now()})
}

// death is when a process was killed.
type death struct {
	name string
	at   time.Time
}

// alive returns the CPU time of processes that run: 0 where the system has no /proc.
func alive(of []*child) (total time.Duration) {
	for _, c := range of {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat))
		for _, field := range fields[min(13, len(fields)):min(15, len(fields))] {
			ticks, _ := strconv.Atoi(field)
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}

func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // together, so that each is another
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			ports = append(ports, a.Port)
		}
	}
	return ports, nil
}
