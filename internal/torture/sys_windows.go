package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "torture: it stops and continues processes, which Windows cannot")
	os.Exit(1)
}
