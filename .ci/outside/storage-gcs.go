package main

import (
	"context"
	"fmt"
	"log"

	"cloud.google.com/go/storage"
	"google.golang.org/api/option"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/gcs"
)

func main() {
	cloud, err := storage.NewClient(context.Background(), option.WithoutAuthentication())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ricloud.NewClient("token", ricloud.WithStorage("gs", gcs.New(cloud))); err != nil {
		log.Fatal(err)
	}
	fmt.Println("a client reads gs:// results")
}
