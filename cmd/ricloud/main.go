// Ricloud is the command line of the ricloud API: it logs in to an account with its owner's
// consent, fetches the account's data as verified files, and shows what the API does.
//
//	go install github.com/reincubate/ricloud-go/cmd/ricloud@latest
//	ricloud --help
//
// Every command takes --sandbox, which needs no account and no network.
package main

import (
	"os"

	"github.com/reincubate/ricloud-go/cmd/ricloud/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
