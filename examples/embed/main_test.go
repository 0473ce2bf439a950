package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// ask returns the whole answer of the server, and the number of pieces that it
// came in.
func ask(ctx context.Context, server, question string) (string, int, error) {
	request, err := http.NewRequestWithContext(ctx, "GET", server+"/ask?q="+url.QueryEscape(question), nil)
	if err != nil {
		return "", 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	answer, pieces, piece := "", 0, make([]byte, 64)
	for {
		n, err := response.Body.Read(piece)
		if n > 0 {
			answer, pieces = answer+string(piece[:n]), pieces+1
		}
		if err == io.EOF {
			return answer, pieces, nil
		} else if err != nil {
			return answer, pieces, err
		}
	}
}

func TestConcurrentRequests(t *testing.T) {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	server := httptest.NewServer(handler(m))
	defer server.Close()

	questions := []string{"What does RMSNorm do?", "Where is RoPE?", "What is the KV cache?", "Who are you?"}
	want := map[string]string{}
	for _, q := range questions {
		answer, pieces, err := ask(t.Context(), server.URL, q)
		if err != nil || answer == "" {
			t.Fatalf("%s: answer %q, error %v", q, answer, err)
		}
		if pieces < 2 {
			t.Errorf("%s: the answer came in %d piece, want it streamed", q, pieces)
		}
		want[q] = answer
	}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			q := questions[i%len(questions)]
			if i%8 == 7 { // somebody who does not wait
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				ask(ctx, server.URL, q)
				return
			}
			answer, _, err := ask(t.Context(), server.URL, q)
			if err != nil || answer != want[q] {
				t.Errorf("%s: got %q, %v, want %q as when alone", q, answer, err, want[q])
			}
		})
	}
	all.Wait()
}

func TestNoQuestion(t *testing.T) {
	server := httptest.NewServer(handler(nil))
	defer server.Close()
	response, err := http.Get(server.URL + "/ask")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %s, want 400", response.Status)
	}
}

// What goes wrong before the first token is a status, not an empty answer.
func TestErrorStatus(t *testing.T) {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler(m))
	defer server.Close()
	for _, test := range []struct {
		question string
		close    bool
		status   int
	}{
		{"What is RoPE?", false, http.StatusOK},
		{strings.Repeat("word ", 5000), false, http.StatusRequestEntityTooLarge},
		{"What is RoPE?", true, http.StatusInternalServerError},
	} {
		if test.close {
			m.Close()
		}
		response, err := http.Get(server.URL + "/ask?q=" + url.QueryEscape(test.question))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%.20s: status %s, expected %d", test.question, response.Status, test.status)
		}
	}
}

// Requests draw each for itself.
func TestSeeds(t *testing.T) {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Config.Sampling.Temperature = 3
	server := httptest.NewServer(handler(m))
	defer server.Close()
	answers := map[string]bool{}
	for range 5 {
		answer, _, err := ask(t.Context(), server.URL, "What is RoPE?")
		if err != nil {
			t.Fatal(err)
		}
		answers[answer] = true
	}
	if len(answers) < 2 {
		t.Errorf("five times %v", answers)
	}
}
