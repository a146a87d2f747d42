package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ricloud "github.com/reincubate/ricloud-go"
)

func (a *app) webhookSignCommand() *cobra.Command {
	var from, at string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Sign a body as the API does, without a request",
		Args: cobra.ExactArgs(1),
		Long: "Sign a body as the API does, without a request, and print the header. FILE may be - " +
			"for standard input.",
		Example: "  ricloud webhooks sign event.json --secret @secret.txt",
	}
	cmd.Flags().StringVar(&from, "secret", "prompt", "read the webhook secret "+secretHelp)
	cmd.Flags().StringVar(&at, "at", "", "the `moment` of the signature; now by default")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, body, err := a.secretAndBody(cmd, from, args[0])
		if err != nil {
			return err
		}
		when, err := moment(at)
		if err != nil {
			return usageError(cmd, fmt.Errorf("--at: %w", err))
		}
		if when.IsZero() {
			when = now()
		}
		return a.print(nil,
			map[string]any{"header": ricloud.SignatureHeader, "value": sign(secret, when, body)})
	}
	return cmd
}

func (a *app) webhookVerifyCommand() *cobra.Command {
	var from, header string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Verify the signature of a body, without a request",
		Args: cobra.ExactArgs(1),
		Long: `Verify the signature of a body, without a request. FILE may be - for standard input.

The exit code is 8 if the signature does not match.`,
		Example: "  ricloud webhooks verify body.json --header 't=…,s=…' --secret @secret.txt",
	}
	cmd.Flags().StringVar(&from, "secret", "prompt", "read the webhook secret "+secretHelp)
	cmd.Flags().StringVar(&header, "header", "",
		"the `value` of the "+ricloud.SignatureHeader+" header")
	_ = cmd.MarkFlagRequired("header")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret, body, err := a.secretAndBody(cmd, from, args[0])
		if err != nil {
			return err
		}
		// A stored delivery may be of any age.
		verifier := ricloud.WebhookVerifier{
			Secrets: []ricloud.Secret{secret}, Past: century,
			Future: century,
		}
		if err := verifier.Verify(strings.TrimSpace(header), body); err != nil {
			return fmt.Errorf("%w: %w", errVerification, err)
		}
		return a.print(nil, map[string]any{"verified": true})
	}
	return cmd
}

// secretAndBody reads what a signature is made of.
func (a *app) secretAndBody(
	cmd *cobra.Command, from, path string,
) (secret ricloud.Secret, body []byte, err error) {
	if from == "-" && path == "-" {
		return secret, nil, usageError(cmd,
			errors.New("the secret and the body cannot both come from standard input"))
	}
	if secret, err = a.secret(cmd.Context(), from, "webhook secret"); err != nil {
		return secret, nil, err
	}
	body, err = a.readInput(path)
	return secret, body, err
}

const century = 100 * 365 * 24 * time.Hour
