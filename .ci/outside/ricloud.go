package main

import (
	"context"
	"fmt"
	"log"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/ricloudtest"
)

func main() {
	sandbox := ricloudtest.NewServer()
	defer sandbox.Close()
	user, err := sandbox.Client().Users.Create(context.Background(),
		ricloud.UserCreateParams{Identifier: "jane"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created user", user.ID, "with ricloud-go", ricloud.Version)
}
