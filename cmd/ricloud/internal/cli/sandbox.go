package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

// sandboxSpeed makes a minute of the API's work last a few seconds.
const sandboxSpeed = 5

// sandboxClient returns a client of a sandbox inside this process.
func (a *app) sandboxClient(opts []ricloud.Option) (*ricloud.Client, error) {
	server := ricloudtest.NewServer(ricloudtest.WithSpeed(sandboxSpeed))
	a.closers = append(a.closers, server.Close)
	if a.dryRun {
		opts = append(opts, ricloud.WithTransport(&dryRun{app: a, next: http.RoundTripper(server)}))
	}
	return server.Client(opts...), nil
}

func (a *app) sandboxCommand() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use:     "sandbox",
		Short:   "Serve the sandbox on this machine, for programs in any language",
		Example: "  ricloud sandbox --addr 127.0.0.1:8321",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server := ricloudtest.NewServer()
			defer server.Close()
			if err := server.Start(); err != nil {
				return err
			}
			if err := a.print(nil, map[string]any{"url": server.URL()}); err != nil {
				return err
			}
			fmt.Fprintln(a.errs, "Ctrl-C ends it.")
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:8321", "the `host:port` to listen on")
	return cmd
}
