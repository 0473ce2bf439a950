package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/bc1a8f18/qwen"
)

const chatHelp = `/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer.
A line that ends in \ goes on in the next one.`

func setupChat(f *flag.FlagSet) func([]string) error {
	g := newGenerateFlags(f)
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments")
		}
		if err := g.setThreads(); err != nil {
			return err
		}
		m, err := g.model()
		if err != nil {
			return err
		}
		defer m.Close()
		fmt.Fprintln(os.Stderr, chatHelp)
		o := g.options(m, false)
		o.Cache = m.NewCache()
		return converse(m, *g.system, o, bufio.NewReader(os.Stdin))
	}
}

// converse reads messages and streams answers until the input ends.
func converse(m *qwen.Model, system string, o qwen.Options, in *bufio.Reader) error {
	var start []qwen.Message
	if system != "" {
		start = []qwen.Message{{Role: "system", Content: system}}
	}
	messages := start
	for {
		fmt.Fprint(os.Stderr, "\n> ")
		text, err := readMessage(in)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			return nil
		}
		switch text {
		case "":
			continue
		case "/exit", "/quit":
			return nil
		case "/reset":
			messages = start
			o.Cache.Truncate(0)
			continue
		case "/help":
			fmt.Fprintln(os.Stderr, chatHelp)
			continue
		}
		messages = append(messages, qwen.Message{Role: "user", Content: text})
		reply, err := say(m, messages, o)
		if err != nil && !errors.Is(err, context.Canceled) {
			if !errors.Is(err, qwen.ErrContextFull) {
				return err
			}
			fmt.Fprintln(os.Stderr, "\n[the context is full: /reset starts again]")
		}
		messages = append(messages, qwen.Message{Role: "assistant", Content: reply})
	}
}

// readMessage reads a line, and the next one after a backslash at its end.
func readMessage(in *bufio.Reader) (string, error) {
	var lines []string
	for {
		line, err := in.ReadString('\n')
		if err != nil && line == "" {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if more, ok := strings.CutSuffix(line, `\`); ok {
			lines = append(lines, more)
			continue
		}
		return strings.TrimSpace(strings.Join(append(lines, line), "\n")), nil
	}
}

// say streams one answer. Ctrl-C ends it, not the program.
func say(m *qwen.Model, messages []qwen.Message, o qwen.Options) (string, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var reply strings.Builder
	for t, err := range m.Chat(ctx, messages, o) {
		if err != nil {
			fmt.Println()
			return reply.String(), err
		}
		reply.WriteString(t.Text)
		fmt.Print(t.Text)
	}
	fmt.Println()
	return reply.String(), nil
}
