// Command embed is a complete small program around package qwen: an HTTP server
// that streams answers. One Model serves all requests; a request that goes away
// stops its generation at the next token.
//
//	go run . [-model DIR] [-addr localhost:8080]
//	curl -N 'localhost:8080/ask?q=What+does+RMSNorm+do%3F'
package main

import (
	"errors"
	"flag"
	"io"
	"log"
	"math/rand/v2"
	"net/http"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// maxTokens bounds an answer, so that no request holds a core for ever.
const maxTokens = 512

func main() {
	dir := flag.String("model", "", "checkpoint folder (default: the embedded model)")
	addr := flag.String("addr", "localhost:8080", "where to listen")
	flag.Parse()

	m, err := qwen.LoadFS(tiny.FS)
	if *dir != "" {
		m, err = qwen.Load(*dir)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	log.Printf("listening on %s", *addr)
	log.Fatal(http.ListenAndServe(*addr, handler(m)))
}

// handler answers GET /ask?q=QUESTION with the text as it is generated.
func handler(m *qwen.Model) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ask", func(w http.ResponseWriter, r *http.Request) {
		question := r.FormValue("q")
		if question == "" {
			http.Error(w, "expected a question: /ask?q=…", http.StatusBadRequest)
			return
		}
		o := qwen.Options{MaxTokens: maxTokens, Sampling: m.Config.Sampling}
		o.Sampling.Seed = rand.Uint64() // else every answer to a question would be the same
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		flush := http.NewResponseController(w)
		begun := false // the status is sent with the first token
		for token, err := range m.Chat(r.Context(), []qwen.Message{{Role: "user", Content: question}}, o) {
			if err != nil {
				log.Printf("%.100q: %v", question, err) // the context's error if the client went away
				if !begun {
					status := statusOf(err)
					http.Error(w, http.StatusText(status), status)
				}
				return
			}
			begun = true
			if _, err := io.WriteString(w, token.Text); err != nil {
				return
			}
			flush.Flush()
		}
	})
	return mux
}

// statusOf says to a client whose fault an error is.
func statusOf(err error) int {
	if errors.Is(err, qwen.ErrContextFull) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusInternalServerError
}
