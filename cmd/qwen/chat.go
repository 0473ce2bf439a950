package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"

	"github.com/bc1a8f18/qwen"
)

const chatHelp = `/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer.
A line that ends in \ goes on in the next one.`

// terminalHelp is what a terminal can do besides.
const terminalHelp = `The arrow keys bring back earlier messages, Alt-Enter begins a new line,
and a pasted text is one message.`

func setupChat(f *flag.FlagSet) func([]string) error {
	g := newGenerateFlags(f)
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments")
		}
		setThreads(*g.threads)
		m, err := g.model()
		if err != nil {
			return err
		}
		defer m.Close()
		if _, err := m.ChatIDs([]qwen.Message{{Role: "user", Content: "?"}}, qwen.Options{}); err != nil {
			return err // no tokenizer, or a template that is not known
		}
		if !given(f, "model") {
			fmt.Fprintln(os.Stderr, "The built-in model answers, and knows this package. -model takes another one.")
		}
		read, help := newReader()
		fmt.Fprintln(os.Stderr, help)
		o := g.options(m, false)
		o.Cache = m.NewCache()
		return converse(m, *g.system, o, read, help)
	}
}

// newReader returns what reads one message after the other, and what there is to
// know about it: an editor on a terminal, else lines.
func newReader() (read func() (string, error), help string) {
	in := bufio.NewReader(os.Stdin)
	if !isTerminal(os.Stdin) || !isTerminal(os.Stderr) || os.Getenv("TERM") == "dumb" {
		return func() (string, error) {
			fmt.Fprint(os.Stderr, prompt)
			text, err := readMessage(in)
			if err != nil {
				fmt.Fprintln(os.Stderr)
			}
			return text, err
		}, chatHelp
	}
	e := &editor{in: in, out: os.Stderr, size: func() (columns, rows int) {
		columns, rows, _ = terminalSize(os.Stderr)
		return columns, rows
	}}
	return func() (string, error) {
		restore, err := rawMode(os.Stdin)
		if err != nil {
			return "", err
		}
		defer restore()
		fmt.Fprint(os.Stderr, "\x1b[?2004h") // the terminal marks what is pasted
		defer fmt.Fprint(os.Stderr, "\x1b[?2004l")
		return e.read()
	}, chatHelp + "\n" + terminalHelp
}

// unknownCommand is what a person may have meant for a command; /tmp/a.txt is text.
var unknownCommand = regexp.MustCompile(`^/[a-z]+$`)

// converse reads messages and streams answers until the input ends.
func converse(m *qwen.Model, system string, o qwen.Options, read func() (string, error), help string) error {
	var start []qwen.Message
	if system != "" {
		start = []qwen.Message{{Role: "system", Content: system}}
	}
	messages := start
	for {
		fmt.Fprintln(os.Stderr)
		text, err := read()
		if errors.Is(err, errInterrupted) {
			fmt.Fprint(os.Stderr, "[Ctrl-D leaves]")
			continue
		} else if err != nil {
			return nil
		}
		switch text {
		case "":
			continue
		case "/exit", "/quit", "/bye":
			return nil
		case "/reset", "/clear":
			messages = start
			o.Cache.Truncate(0)
			fmt.Fprintln(os.Stderr, "[a new conversation]")
			continue
		case "/help", "/?":
			fmt.Fprintln(os.Stderr, help)
			continue
		}
		if unknownCommand.MatchString(text) {
			fmt.Fprintf(os.Stderr, "[there is no %s: /reset, /exit, /help]\n", clip(text))
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
	ids, err := m.ChatIDs(messages, o)
	if err != nil {
		return "", err
	}
	readPrompt(ctx, m, ids, o.Cache)
	var reply strings.Builder
	dim := thoughts{on: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	for t, err := range m.Generate(ctx, ids, o) {
		if err != nil {
			fmt.Fprintln(stdout, dim.end())
			return reply.String(), err
		}
		reply.WriteString(t.Text)
		if _, err := fmt.Fprint(stdout, dim.show(t.Text)); err != nil {
			return "", err
		}
		if t.Finish == "length" {
			fmt.Fprintf(os.Stderr, "%s\n[%d tokens, the limit of -n: say \"go on\"]", dim.end(), o.MaxTokens)
		}
	}
	fmt.Fprintln(stdout)
	return reply.String(), nil
}

// thoughts dims what a model thinks before it answers, on a terminal.
type thoughts struct{ on, dimmed bool }

// show returns text as the terminal should get it. <think> and </think> are tokens
// of Qwen3, so each comes in one piece.
func (t *thoughts) show(text string) string {
	if !t.on {
		return text
	}
	switch {
	case strings.Contains(text, "<think>"):
		t.dimmed = true
		return "\x1b[2m" + text
	case strings.Contains(text, "</think>"):
		return text + t.end()
	}
	return text
}

// end returns what switches dimming off.
func (t *thoughts) end() string {
	if !t.dimmed {
		return ""
	}
	t.dimmed = false
	return "\x1b[0m"
}
