// Ricloud-sandbox serves the ricloud API from memory, for clients in any language. It prints where
// it listens and which accounts it has, and ends with Ctrl-C. See docs/sandbox.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/reincubate/ricloud-go/internal/sandboxprogram"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := sandboxprogram.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ricloud-sandbox:", err)
		if errors.Is(err, sandboxprogram.ErrUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
