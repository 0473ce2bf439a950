package qwen

// Conversations as the model was trained to read them.
//
// A chat model has seen conversations as one long text in which control tokens mark the turns. A checkpoint carries
// the recipe for that text as a template in the language of jinja2. This file renders three of them in Go:
//
//	<|im_start|>system⏎You are a helpful assistant.<|im_end|>⏎       Qwen2, Qwen2.5: put in if no system message is given
//	<|im_start|>user⏎What is 2+2?<|im_end|>⏎
//	<|im_start|>assistant⏎<think>⏎⏎</think>⏎⏎                        the prompt for an answer; the empty thought
//	                                                                 only with Qwen3 when thinking is switched off
//
// They differ in the default system message, and in that only Qwen3's knows thoughts: what an assistant thought in
// answers to earlier questions is dropped, since it was not there in training; what it thought since the last question
// stays.
//
//	                              Qwen2                   Qwen2.5                  Qwen3
//	no system message given       "You are a helpful …"   "You are Qwen, created   none is put in
//	                                                      by Alibaba Cloud. …"
//	thoughts                      text like any other     text like any other      dropped, or kept apart
//	no messages at all            renders                 error                    error
//
// A template that is nearly right is the worst kind of mistake here: the model answers, only worse. A missing newline
// after <|im_end|> is enough.
//
// Text and ids are made from the same parts, and the parts know who wrote them. That matters for ids: a user may
// write "<|im_end|>⏎<|im_start|>system⏎…", and if these became control tokens, the user's text would end its own
// turn and speak as the system. So EncodeChat follows one rule:
//
//	in the template's own text   every added token is recognised
//	in content                   those that are marked special in tokenizer.json are text like any other; so are
//	                             <|im_start|>, <|im_end|> and <|endoftext|>, however they are marked
//	in content                   the other added tokens (<think>, </think>, <tool_call>, …) are recognised, as in
//	                             Hugging Face: assistants write them, earlier answers must keep their ids, and they
//	                             end no turn
//
// The stretches between recognised tokens are normalised and split across the seams of parts, as one text. So for a
// conversation that spells no special token, the ids are those of Hugging Face for the rendered text.
//
// Limits: the tool part of the templates is left out; messages of the role tool are refused.
//
// Reference: chat_template in tokenizer_config.json of Qwen2-7B-Instruct, Qwen2.5-7B-Instruct, Qwen3-8B; transformers,
// apply_chat_template.
//
// Next: sample.go

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// A Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user or assistant
	Content string `json:"content"`
	// Reasoning is what an assistant thought before it answered; only Qwen3's template shows it. If it is empty, a
	// thought is looked for in Content, before </think>.
	Reasoning string `json:"reasoning_content,omitempty"`
}

// A Template is a way to write a conversation as one text. Its value is its name in the command qwen. "" is the template
// of a model whose own is not known; Chat with it is an error.
type Template string

const (
	TemplateQwen2  Template = "qwen2"   // default system message "You are a helpful assistant."
	TemplateQwen25 Template = "qwen2.5" // default system message "You are Qwen, …"
	TemplateQwen3  Template = "qwen3"   // no default; thoughts of earlier answers are left out
)

// RenderOptions are the template's variables.
type RenderOptions struct {
	AddGenerationPrompt bool  // end with the beginning of an assistant's turn
	Thinking            *bool // enable_thinking of Qwen3's template; nil: not given, which means true
}

// Render returns the conversation as one text: exactly what jinja2 makes of the template. The text does not show who
// wrote what; encode it with [Tokenizer.EncodeChat], not with Encode, unless you trust every message.
func (t Template) Render(messages []Message, o RenderOptions) (string, error) {
	parts, err := t.parts(messages, o)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, p := range parts {
		text.WriteString(p.text)
	}
	return text.String(), nil
}

// EncodeChat returns the ids of the conversation. The content of a message cannot forge a turn: tokens that are marked
// special in tokenizer.json, and <|im_start|>, <|im_end|> and <|endoftext|> in any case, are recognised only where the
// template writes them, and are plain text in content. Other added tokens, such as <think>, are recognised in both.
//
// For the content "a<|im_end|>" and Qwen's vocabulary:
//
//	Encode(Render(…))   … 64 151645 151645 198                        the user ended the turn, and then it ended again
//	EncodeChat(…)       … 64 27 91 318 6213 91 29 151645 198          < | im _end | > are text
func (t *Tokenizer) EncodeChat(template Template, messages []Message, o RenderOptions) ([]int, error) {
	parts, err := template.parts(messages, o)
	if err != nil {
		return nil, fmt.Errorf("qwen: %w", err)
	}
	size := 0
	for _, p := range parts {
		size += len(p.text)
	}
	if err := checkSize(size); err != nil {
		return nil, err
	}
	// The tokens that make turns, whether or not the file calls them special.
	control := map[int]bool{}
	for _, name := range []string{"<|im_start|>", "<|im_end|>", "<|endoftext|>"} {
		if id, ok := t.ID(name); ok {
			control[id] = true
		}
	}
	inContent := func(id int) bool { return !t.Special(id) && !control[id] }

	// Tokens of the template are cut out part by part; all else collects in stretch, content and the template's plain
	// text alike, and is encoded when the next token comes. "user\n" and the message after it are split together,
	// as they would be in the rendered text: a message that begins with a newline shares a piece with the template's.
	//
	//	template  <|im_start|>           found: flush, append 151644
	//	          user⏎                  into the stretch
	//	content   ⏎Hi                    into the stretch: "user⏎⏎Hi", pieces user ⏎⏎ Hi
	//	template  <|im_end|>             found: flush encodes the stretch, append 151645
	var ids []int               // of all before the stretch
	var stretch strings.Builder // text since the last token of the template
	flush := func() {
		ids = t.encode(ids, stretch.String(), inContent)
		stretch.Reset()
	}
	between := func(text string) { stretch.WriteString(text) }
	found := func(id int) {
		flush()
		ids = append(ids, id)
	}
	for _, p := range parts {
		if p.content {
			between(p.text)
			continue
		}
		t.raw.cut(p.text, every, found, func(text string) {
			t.normalized.cut(text, every, found, between) // the template's own text is its own normal form
		})
	}
	flush()
	return ids, nil
}

// A chatPart is a stretch of a rendered conversation: content of a message, or the template's own text. The seam between
// the two is all that keeps a message from becoming an instruction, so it is kept until the text is ids.
type chatPart struct {
	text    string
	content bool
}

// parts renders a conversation: each case below is a branch of the template, in its order. One question becomes
//
//	template   "<|im_start|>user\n"
//	content    "What is 2+2?"
//	template   "<|im_end|>\n"
//	template   "<|im_start|>assistant\n"           if AddGenerationPrompt
func (t Template) parts(messages []Message, o RenderOptions) ([]chatPart, error) {
	var parts []chatPart
	// turn is a whole message. own is text of the template inside of it.
	turn := func(role, own, content string) {
		parts = append(parts, chatPart{"<|im_start|>" + role + "\n" + own, false}, chatPart{content, true}, chatPart{"<|im_end|>\n", false})
	}
	if err := t.check(messages); err != nil {
		return nil, err
	}
	// The default system message is the template's own text.
	system := ""
	switch t {
	case TemplateQwen2:
		system = "You are a helpful assistant."
	case TemplateQwen25:
		system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
	}
	if system != "" && len(messages) > 0 && messages[0].Role != "system" {
		turn("system", system, "")
	}
	question := lastQuestion(messages) // jinja: ns.last_query_index
	// After it an assistant may have thought, called a tool, read the answer and thought again: one train of thought,
	// which stays whole. Before it, all thoughts have served their purpose.
	for i, m := range messages {
		if t != TemplateQwen3 || m.Role != "assistant" {
			turn(m.Role, "", m.Content)
			continue
		}
		// The thought comes apart from the answer, or in one text with it. It is shown only in what follows the last
		// question: always in the last message, which the model may be asked to continue, else only if there is one.
		thought, answer := m.Reasoning, m.Content
		if thought == "" {
			thought, answer = splitThought(m.Content)
		}
		if i > question && (i == len(messages)-1 || thought != "") {
			parts = append(parts, chatPart{"<|im_start|>assistant\n<think>\n", false}, chatPart{strings.Trim(thought, "\n"), true},
				chatPart{"\n</think>\n\n", false}, chatPart{strings.TrimLeft(answer, "\n"), true}, chatPart{"<|im_end|>\n", false})
		} else {
			turn(m.Role, "", answer)
		}
	}
	// The beginning of the answer. An empty thought makes the model take its thinking for done.
	if o.AddGenerationPrompt {
		prompt := "<|im_start|>assistant\n"
		if t == TemplateQwen3 && o.Thinking != nil && !*o.Thinking {
			prompt += "<think>\n\n</think>\n\n"
		}
		parts = append(parts, chatPart{prompt, false})
	}
	return parts, nil
}

// check refuses what the template cannot render, and messages that it would pass over without a word: {"role": "User"},
// with a capital letter, would be a conversation without a question.
func (t Template) check(messages []Message) error {
	switch t {
	case TemplateQwen2:
	case TemplateQwen25, TemplateQwen3: // both ask for the role of the first message
		if len(messages) == 0 {
			return errors.New("found no messages, expected at least one")
		}
	default:
		return fmt.Errorf("found template %s, expected qwen2, qwen2.5 or qwen3", quote(string(t)))
	}
	for i, m := range messages {
		switch m.Role {
		case "system", "user", "assistant":
		case "tool":
			return fmt.Errorf("messages[%d].role: found \"tool\", expected system, user or assistant: tools are not supported", i)
		default:
			return fmt.Errorf("messages[%d].role: found %s, expected system, user or assistant", i, quote(m.Role))
		}
	}
	return nil
}

// lastQuestion returns the index of the last message of the user that is not the answer of a tool, or that of the last
// message if there is none. Tools answer in the user's name, so a thought may go on over several such messages:
//
//	0 user       What is the weather in Paris?        ← the last question
//	1 assistant  <think>I must look.</think><tool_call>…
//	2 user       <tool_response>18 °C</tool_response>
//	3 assistant  <think>18 is mild.</think>Mild.      both thoughts are shown
func lastQuestion(messages []Message) int {
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		answer := strings.HasPrefix(m.Content, "<tool_response>") && strings.HasSuffix(m.Content, "</tool_response>")
		if m.Role == "user" && !answer {
			return i
		}
	}
	return len(messages) - 1
}

// splitThought cuts what an assistant wrote, "<think>⏎thought⏎</think>⏎⏎answer", in two. With several tags the thought
// is what stands before the first </think>, after the last <think> there, and the answer what follows the last </think>:
//
//	"<think>⏎Easy.⏎</think>⏎⏎4"     →  "Easy.", "4"
//	"4"                             →  "", "4"
//	"a<think>b</think>c</think>d"   →  "b", "d"
func splitThought(content string) (thought, answer string) {
	parts := strings.Split(content, "</think>")
	if len(parts) == 1 {
		return "", content
	}
	// jinja: content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')
	thought = strings.TrimRight(parts[0], "\n") // in jinja2's order, which shows when there are several tags
	if i := strings.LastIndex(thought, "<think>"); i >= 0 {
		thought = thought[i+len("<think>"):]
	}
	return strings.TrimLeft(thought, "\n"), strings.TrimLeft(parts[len(parts)-1], "\n")
}

// template recognises the chat template of the folder, since no field names it: chat_template.jinja, or chat_template in
// tokenizer_config.json, or else the one of modelType. It is "" if this package does not know the template; Chat then
// returns an error, and everything else works.
func (f folder) template(modelType string) (Template, error) {
	name := "chat_template.jinja"
	data, err := f.read(name, maxConfigFile)
	source := string(data)
	if f.absent(name, err) { // then it is where transformers 4 put it
		name = "tokenizer_config.json"
		if data, err = f.read(name, maxConfigFile); err == nil {
			if source, err = parseChatTemplate(data); err != nil {
				return "", inFile(f.path(name), ErrTokenizer, err)
			}
		}
	}
	if err != nil && !f.absent(name, err) {
		return "", err
	}
	return templateFor(source, modelType), nil
}

// parseChatTemplate returns chat_template of tokenizer_config.json: a string, or
// a list of named ones, of which "default" counts; "" if there is none.
//
//	{"chat_template": "{%- for message in messages %}…", …}
//	{"chat_template": [{"name": "default", "template": "…"}, {"name": "tool_use", "template": "…"}], …}
func parseChatTemplate(data []byte) (source string, err error) {
	err = readJSON(data, func(r *jsonReader) {
		r.object(func(key string) {
			switch {
			case key != "chat_template" || r.null():
			case r.kind() == '"':
				source = r.string()
			default:
				r.array(func(int) {
					var name, text string
					r.object(func(key string) {
						switch key {
						case "name":
							name = r.string()
						case "template":
							text = r.string()
						}
					})
					if name == "default" {
						source = text
					}
				})
			}
		})
	})
	return source, err
}

// LoadTemplate recognises the chat template of dir; a folder with nothing but
// the tokenizer's files will do.
func LoadTemplate(dir string) (Template, error) { return folder{dir: dir}.ownTemplate() }

// LoadTemplateFS is LoadTemplate for a file system.
func LoadTemplateFS(fsys fs.FS) (Template, error) {
	if fsys == nil {
		return "", errNoFS()
	}
	return folder{".", fsys}.ownTemplate()
}

// ownTemplate is template where nothing has been loaded: the model type comes from
// config.json, if there is one, and a template that is not known is an error.
func (f folder) ownTemplate() (Template, error) {
	modelType := ""
	if c, err := f.config(); err == nil {
		modelType = c.ModelType
	}
	t, err := f.template(modelType)
	if err == nil && t == "" {
		err = &LoadError{f.path("tokenizer_config.json"), ErrTokenizer, "found no chat template that this package knows, expected Qwen2's, Qwen2.5's or Qwen3's"}
	}
	return t, err
}

// templateFor recognises a template by what is particular to it. Where a folder has none the model type decides, and
// qwen2, which Qwen2 and Qwen2.5 share, is taken for Qwen2.5. A template that is none of the three is "": there is no
// jinja2 here that could run it, and one that renders nearly the same would cost quality without a sign (a missing
// default system message, an added empty thought).
func templateFor(chatTemplate, modelType string) Template {
	chatTemplate = strings.ReplaceAll(chatTemplate, `\n`, "\n") // inside its strings, newlines are written either way
	has := func(parts ...string) bool {                         // all of them
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(chatTemplate, part) })
	}
	const qwen2, qwen25 = "You are a helpful assistant.", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
	switch {
	case chatTemplate == "" && modelType == "qwen2":
		return TemplateQwen25
	case chatTemplate == "" && modelType == "qwen3":
		return TemplateQwen3
	case !turnForm.MatchString(chatTemplate) || !has("'<|im_start|>assistant\n'") || has("trim") || has("<|vision_start|>"):
		// turns that begin or end in another way; images: models of another network
	// ns.last_query_index and enable_thinking are variables of Qwen3's template, and of no other's together.
	case has("last_query_index", "reasoning_content", "enable_thinking is false") && onlySystem(chatTemplate, ""):
		return TemplateQwen3
	case has("<think>"): // QwQ, Qwen3-2507 and others that treat thoughts in other ways: not known
	case has("<|im_start|>system\n"+qwen25+"<|im_end|>") && onlySystem(chatTemplate, qwen25):
		return TemplateQwen25
	case has("<|im_start|>system\n"+qwen2+"<|im_end|>") && onlySystem(chatTemplate, qwen2): // also the base models of Qwen2.5
		return TemplateQwen2
	}
	return ""
}

// turnForm is what a template of Qwen's begins with, a statement and no text, and how it
// writes a turn: the role, a newline, the content as it is, the end, a newline.
var turnForm = regexp.MustCompile(`(?s)^\s*\{%.*'<\|im_start\|>' \+ message(?:\.role|\['role'\]) \+ '\n' \+ ` +
	`(?:message\.content|message\['content'\]|content) \+ '<\|im_end\|>' \+ '\n'`)

// onlySystem says whether no system turn of the template has text of its own but for the
// given one: what follows the beginning of each is that, or the end of the string.
func onlySystem(chatTemplate, text string) bool {
	turns := strings.Split(chatTemplate, "<|im_start|>system\n")
	return !slices.ContainsFunc(turns[1:], func(turn string) bool {
		return !strings.HasPrefix(turn, "'") && (text == "" || !strings.HasPrefix(turn, text+"<|im_end|>"))
	})
}
