package main

import (
	"log"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/otel"
)

func main() {
	hooks, err := otel.New()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ricloud.NewClient("token", ricloud.WithHooks(hooks)); err != nil {
		log.Fatal(err)
	}
}
