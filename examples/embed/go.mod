module github.com/bc1a8f18/qwen/examples/embed

go 1.26.0

require github.com/bc1a8f18/qwen v0.0.0

require (
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

// Built with the package that lies beside it. A program of your own has no such line:
// there, go get github.com/bc1a8f18/qwen writes a version above.
replace github.com/bc1a8f18/qwen => ../..
