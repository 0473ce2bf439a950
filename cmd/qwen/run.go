package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/bc1a8f18/qwen"
)

// generateFlags are the flags that run and chat share.
type generateFlags struct {
	set                       *flag.FlagSet
	model                     func() (*qwen.Model, error)
	system                    *string
	think                     **bool // nil without -think
	n, threads                *int
	temp, topP, minP, penalty *float64
	topK                      *int
	seed                      *uint64
	ignoreEOS                 *bool
}

func newGenerateFlags(f *flag.FlagSet) generateFlags {
	g := generateFlags{
		set: f, model: modelFlag(f),
		system:    f.String("system", "", "system `message`"),
		n:         intFlag(f, "n", 1024, 0, most, "most new `tokens`; 0: up to the context (default 1024)"),
		threads:   threadsFlag(f),
		temp:      floatFlag(f, "temp", math.MaxFloat32, "`temperature`; 0 is greedy (default: the model's own; greedy with -json)"),
		topK:      intFlag(f, "top-k", 0, -1, 1<<30, "only the `k` likeliest tokens; 0 or -1: all (default: the model's own)"),
		topP:      floatFlag(f, "top-p", 1, "only the likeliest tokens that sum to `p` (default: the model's own)"),
		minP:      floatFlag(f, "min-p", 1, "only tokens at least `p` times as likely as the likeliest (default: the model's own)"),
		penalty:   floatFlag(f, "repetition-penalty", math.MaxFloat32, "make tokens that occurred less likely by this `factor` (default: the model's own)"),
		seed:      f.Uint64("seed", 0, "the same seed gives the same text (default: a random one)"),
		ignoreEOS: f.Bool("ignore-eos", false, "go on after a stop token"),
	}
	g.think = new(*bool)
	f.BoolFunc("think", "-think=false asks Qwen3 for an answer without reasoning", func(s string) error {
		on, err := strconv.ParseBool(s)
		*g.think = &on
		return err
	})
	return g
}

// given says whether a flag is on the command line.
func given(f *flag.FlagSet, name string) (found bool) {
	f.Visit(func(x *flag.Flag) { found = found || x.Name == name })
	return found
}

// options returns the settings for model m. greedy says what holds without -temp.
func (g generateFlags) options(m *qwen.Model, greedy bool) qwen.Options {
	s := m.Config.Sampling
	if given(g.set, "temp") {
		s.Temperature = *g.temp
	} else if greedy {
		s.Temperature = 0
	}
	if s.Temperature == 0 { // greedy is the plain argmax unless a penalty is asked for
		s = qwen.Sampling{}
	}
	if given(g.set, "top-k") {
		s.TopK = *g.topK
	}
	if given(g.set, "top-p") {
		s.TopP = *g.topP
	}
	if given(g.set, "min-p") {
		s.MinP = *g.minP
	}
	if given(g.set, "repetition-penalty") {
		s.RepetitionPenalty = *g.penalty
	}
	s.Seed = uint64(time.Now().UnixNano())
	if given(g.set, "seed") {
		s.Seed = *g.seed
	}
	return qwen.Options{MaxTokens: *g.n, Sampling: s, IgnoreStop: *g.ignoreEOS, Thinking: *g.think}
}

// setThreads limits the goroutines that run at once; 0 is no limit.
func setThreads(n int) {
	if n > 0 {
		runtime.GOMAXPROCS(n)
	}
}

type logProb struct {
	ID      int     `json:"id"`
	LogProb float64 `json:"logprob"`
}

// runResult is the document of qwen run -json.
type runResult struct {
	PromptIDs  []int       `json:"prompt_ids"`
	IDs        []int       `json:"ids"`
	Text       string      `json:"text"`
	Finish     string      `json:"finish"`
	PrefillTPS float64     `json:"prefill_tok_s"`
	DecodeTPS  float64     `json:"decode_tok_s"`
	LogProbs   [][]logProb `json:"logprobs,omitempty"`
}

func setupRun(f *flag.FlagSet) func([]string) error {
	g := newGenerateFlags(f)
	raw := f.Bool("raw", false, "PROMPT is the model's input as it is, without the chat template")
	idList := idsFlag(f)
	logProbs := intFlag(f, "logprobs", 0, 0, most, "report the log-probabilities of the `K` likeliest tokens (with -json)")
	asJSON := f.Bool("json", false, "print one JSON document")
	return func(args []string) error {
		ids := *idList
		if (ids == nil) == (len(args) == 0) {
			return usageError("expected a PROMPT or -ids, and not both")
		}
		setThreads(*g.threads)
		m, err := g.model()
		if err != nil {
			return err
		}
		defer m.Close()
		o := g.options(m, *asJSON)
		o.LogProbs = *logProbs
		if ids == nil {
			if ids, err = promptIDs(m, strings.Join(args, " "), *g.system, *raw, o); err != nil {
				return err
			}
		}
		return answer(m, ids, o, *asJSON)
	}
}

// parseIDs reads "1,2,3"; white space separates as well.
func parseIDs(s string) (ids []int, err error) {
	for _, field := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' || r == '\r' }) {
		id, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("found %q, expected token ids", clip(field))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// promptIDs encodes a prompt; "-" stands for stdin.
func promptIDs(m *qwen.Model, prompt, system string, raw bool, o qwen.Options) ([]int, error) {
	if prompt == "-" {
		all, err := readStdin()
		if err != nil {
			return nil, err
		}
		prompt = string(all)
	}
	if raw {
		if m.Tokenizer == nil {
			return nil, errors.New("the model has no tokenizer.json, expected one, or -ids")
		}
		return m.Tokenizer.Encode(prompt)
	}
	messages := []qwen.Message{{Role: "user", Content: prompt}}
	if system != "" {
		messages = append([]qwen.Message{{Role: "system", Content: system}}, messages...)
	}
	return m.ChatIDs(messages, o)
}

// answer generates from ids and prints as it goes, or one document at the end.
func answer(m *qwen.Model, ids []int, o qwen.Options, asJSON bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := runResult{PromptIDs: ids, IDs: []int{}, Finish: "length"}
	var text strings.Builder
	start := time.Now()
	first := start
	if o.Cache == nil {
		o.Cache = m.NewCache()
	}
	readPrompt(ctx, m, ids, o.Cache)
	var failed error
	for t, err := range m.Generate(ctx, ids, o) {
		if err != nil {
			failed = err
			break
		}
		if len(r.IDs) == 0 {
			first = time.Now()
		}
		r.IDs = append(r.IDs, t.ID)
		text.WriteString(t.Text)
		if t.Finish != "" {
			r.Finish = t.Finish
		}
		if t.LogProbs != nil {
			step := make([]logProb, len(t.LogProbs))
			for i, p := range t.LogProbs {
				step[i] = logProb(p)
			}
			r.LogProbs = append(r.LogProbs, step)
		}
		if !asJSON {
			fmt.Fprint(stdout, t.Text)
		}
		if stdout.err != nil {
			return stdout.err
		}
	}
	if errors.Is(failed, qwen.ErrContextFull) && len(r.IDs) > 0 {
		r.Finish, failed = "context", nil
	}
	interrupted := errors.Is(failed, context.Canceled)
	if failed != nil && !interrupted {
		return failed
	}
	r.Text = text.String()
	r.PrefillTPS = rate(len(ids), first.Sub(start))
	r.DecodeTPS = rate(len(r.IDs)-1, time.Since(first))
	if err := r.finish(asJSON, m.Tokenizer != nil); err != nil {
		return err
	}
	if interrupted {
		return exitStatus(exitInterrupted)
	}
	return nil
}

// finish prints what has not been printed as it came: the document, the ids of a
// model without text, the end of the last line.
func (r runResult) finish(asJSON, hasText bool) error {
	switch {
	case asJSON:
		return printJSON(r)
	case !hasText:
		printIDs(r.IDs)
	case !strings.HasSuffix(r.Text, "\n"):
		fmt.Fprintln(stdout)
	}
	return nil
}

// printIDs writes ids as parseIDs reads them.
func printIDs(ids []int) { fmt.Fprintln(stdout, strings.Trim(fmt.Sprint(ids), "[]")) }

// rate is n per second, 0 where nothing was measured.
func rate(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
