package main

import (
	"fmt"
	"log"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/storage/s3"
)

func main() {
	opener := s3.New(awss3.New(awss3.Options{Region: "eu-west-1"}))
	if _, err := ricloud.NewClient("token", ricloud.WithStorage("s3", opener)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("a client reads s3:// results")
}
