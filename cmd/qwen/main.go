// Command qwen runs Qwen2, Qwen2.5 and Qwen3 checkpoints, and says what is wrong
// with ports of them. It is a thin door to package qwen.
//
// Results go to stdout, everything else to stderr. Exit status: 0 done, 1 an
// error, 3 a difference found by diff, 64 wrong usage, 130 interrupted.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const (
	exitError       = 1
	exitDiffers     = 3
	exitUsage       = 64
	exitInterrupted = 130
)

// A command is one subcommand of qwen.
type command struct {
	name, args, summary string
	examples            []string
	setup               func(f *flag.FlagSet) func(args []string) error // defines the flags, returns what runs
}

func commands() []command {
	return []command{
		{"run", "[PROMPT]", "one answer, streamed (also plain: qwen PROMPT); PROMPT - reads stdin", []string{
			`qwen "What does RMSNorm do?"`,
			`qwen run -model Qwen/Qwen3-0.6B -think=false "Name three rivers."`,
			`qwen run -model DIR -ids 9707,1879 -n 8 -json`}, setupRun},
		{"chat", "", "a conversation in the terminal", []string{`qwen chat -model Qwen/Qwen3-0.6B`}, setupChat},
		{"tokenize", "", "text on stdin to ids, or back with -decode", []string{
			`echo -n "Hello world" | qwen tokenize`, `echo '["a","b"]' | qwen tokenize -json`}, setupTokenize},
		{"render", "", "a conversation (JSON on stdin) as the chat template writes it", []string{
			`echo '[{"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true}]' | qwen render`}, setupRender},
		{"inspect", "", "every tensor: dtype, shape, statistics, and what looks wrong", []string{`qwen inspect -model DIR -layer 3`}, setupInspect},
		{"trace", "[PROMPT]", "the forward pass with every intermediate, as safetensors", []string{
			`qwen trace -model DIR -ids 9707,1879 -o ours.safetensors`,
			`qwen trace -model DIR -only 'model.layers.0.*' -o layer0.safetensors "Hello"`}, setupTrace},
		{"diff", "REFERENCE", "compare with a recording made elsewhere, and say what is wrong and why", []string{
			`qwen diff -model DIR reference.safetensors`,
			`qwen diff -model DIR -html report.html reference.safetensors`,
			`qwen diff -model DIR -layer 3 -op self_attn reference.safetensors`,
			`qwen diff -ours ours.safetensors reference.safetensors`}, setupDiff},
		{"bench", "", "speed of prefill and decode, load time, memory", []string{`qwen bench -model DIR -prompt 512 -n 64`}, setupBench},
		{"pull", "REPO", "fetch a checkpoint from the hub into the Hugging Face cache", []string{
			`qwen pull Qwen/Qwen3-0.6B`, `HF_TOKEN=… qwen pull -revision v1.0 ORG/NAME`}, setupPull},
	}
}

func main() { os.Exit(run(os.Args[1:])) }

// run does what the arguments say and returns the exit status.
func run(args []string) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		if len(args) == 0 {
			usage(os.Stderr)
			return exitUsage
		}
		usage(stdout)
		return conclude(stdout.err)
	}
	all := commands()
	at := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] })
	if at < 0 {
		at = 0 // plain "qwen PROMPT" is "qwen run PROMPT"
	} else {
		args = args[1:]
	}
	return all[at].run(args)
}

func (c command) run(args []string) int {
	flags := flag.NewFlagSet("qwen "+c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	do := c.setup(flags)
	rest, err := parseFlags(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(stdout, flags)
		return conclude(stdout.err)
	}
	if err == nil {
		err = do(rest)
	} else {
		err = usageError(err.Error())
	}
	if wrong := usageError(""); errors.As(err, &wrong) {
		fmt.Fprintf(os.Stderr, "qwen: %s: %s (qwen %s -h)\n", c.name, oneLine(wrong.Error()), c.name)
		return exitUsage
	}
	if stdout.err != nil {
		err = stdout.err // whatever else was found: it could not be said
	}
	return conclude(err)
}

// conclude says what went wrong, if anything, and returns the exit status.
func conclude(err error) int {
	if err == nil {
		return 0
	}
	if status := exitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	text := err.Error()
	if e := (*fs.PathError)(nil); errors.As(err, &e) && text == e.Error() {
		text = fmt.Sprintf("%s: %s: %v", e.Path, e.Op, e.Err)
	}
	fmt.Fprintf(os.Stderr, "qwen: %s\n", oneLine(text))
	return exitError
}

// parseFlags is flags.Parse, with flags allowed after arguments as well.
func parseFlags(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		left := flags.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if used := len(args) - len(left); used > 0 && args[used-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// usageError is a mistake in the arguments.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitStatus ends the command without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprint("exit status ", int(e)) }

func usage(w io.Writer) {
	fmt.Fprintln(w, "qwen runs Qwen2, Qwen2.5 and Qwen3 models.\n\nusage: qwen COMMAND [flags]   or   qwen PROMPT")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "\n-model takes a checkpoint folder or a repository name; without it the embedded model answers.\nqwen COMMAND -h shows a command's flags and examples.")
}

func (c command) help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "qwen %s: %s\n\nusage: %s\n", c.name, c.summary, strings.TrimSpace("qwen "+c.name+" [flags] "+c.args))
	flags.SetOutput(w)
	flags.PrintDefaults()
	fmt.Fprintln(w, "\nexamples:")
	for _, e := range c.examples {
		fmt.Fprintln(w, "  "+e)
	}
}
