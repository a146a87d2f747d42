//go:build !unix

package download

func addOddThings(map[string]func(string) error) {}
