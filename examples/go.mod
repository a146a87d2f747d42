module github.com/reincubate/ricloud-go/examples

go 1.26.0

replace github.com/reincubate/ricloud-go => ../
