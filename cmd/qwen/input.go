package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// readStdin reads all of stdin. A person who forgot the pipe is told what is going on.
func readStdin() ([]byte, error) {
	if isTerminal(os.Stdin) {
		fmt.Fprintln(os.Stderr, "[reading from the terminal: Ctrl-D on an empty line ends it]")
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("stdin: cannot be read: %s", reason(err))
	}
	return data, nil
}

// readFile reads a regular file of at most limit bytes. A pipe or a device, of which
// nobody knows how much will come, is refused before anything is read.
func readFile(name string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|openPlainly, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be opened: %s, expected a file", name, reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s, expected a file", name, reason(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: found no regular file, expected one", name)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s: found %d bytes, expected at most %d", name, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read: %s", name, reason(err))
	}
	return data, nil
}

// checkJSON returns what is wrong with a document, or "": what encoding/json would let
// pass. It replaces what is not UTF-8 and half of a surrogate pair, and takes the last
// of two keys with the same name.
func checkJSON(data []byte) (problem string) {
	if !utf8.Valid(data) {
		return "found bytes that are not UTF-8"
	}
	if !json.Valid(data) {
		err := json.Unmarshal(data, new(any))
		return clip(err.Error())
	}
	if half := unpairedSurrogate(data); half != "" {
		return "found " + half + ", which is half of a character"
	}
	if key, found := doubleKey(json.NewDecoder(bytes.NewReader(data))); found {
		return fmt.Sprintf("found the key %q twice", clip(key))
	}
	return ""
}

// unpairedSurrogate returns an escape such as \ud83e that stands alone in a valid
// document, or "". Backslashes are found in strings only.
func unpairedSurrogate(data []byte) string {
	unit := func(at int) rune { // of \u at this place, 0 if there is none
		if at+6 > len(data) || data[at] != '\\' || data[at+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(data[at+2:at+6]), 16, 16)
		return rune(n)
	}
	for at := 0; at < len(data); at++ {
		if data[at] != '\\' {
			continue
		}
		if utf16.IsSurrogate(unit(at)) {
			if utf16.DecodeRune(unit(at), unit(at+6)) == utf8.RuneError {
				return string(data[at : at+6])
			}
			at += 6
		}
		at++ // the character after the backslash may be one too
	}
	return ""
}

// doubleKey looks for a key that an object of a valid document has twice.
func doubleKey(d *json.Decoder) (key string, found bool) {
	type object struct {
		keys map[string]bool // nil in an array
		name bool            // what comes next is a key
	}
	var open []object
	for {
		token, err := d.Token()
		if err != nil {
			return "", false
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && open[n-1].keys != nil {
			in := &open[n-1]
			if in.name {
				key := token.(string)
				if in.keys[key] {
					return key, true
				}
				in.keys[key], in.name = true, false
				continue
			}
			in.name = true
		}
		if token == json.Delim('{') {
			open = append(open, object{map[string]bool{}, true})
		} else if token == json.Delim('[') {
			open = append(open, object{})
		}
	}
}

// readInput reads the JSON document of stdin into v.
func readInput(input []byte, v any, expected string) error {
	if problem := checkJSON(input); problem != "" {
		return fmt.Errorf("stdin: %s, expected %s", problem, expected)
	}
	var all any
	if err := json.Unmarshal(input, &all); err != nil {
		return fmt.Errorf("stdin: %s, expected %s", clip(err.Error()), expected)
	}
	if at, found := findNull(all); found {
		return fmt.Errorf("stdin: %sfound null, expected %s", at, expected)
	}
	if err := json.Unmarshal(input, v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("stdin: found a JSON %s before byte %d, expected %s", clip(wrong.Value), wrong.Offset, expected)
		}
		return fmt.Errorf("stdin: %s, expected %s", clip(err.Error()), expected)
	}
	return nil
}

// findNull looks for a null where none may be, and says where.
func findNull(v any) (at string, found bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case []any:
		for i, x := range v {
			if at, found := findNull(x); found {
				return fmt.Sprintf("[%d] %s", i, at), true
			}
		}
	case map[string]any:
		for key, x := range v {
			switch key {
			case "messages", "role", "content", "add_generation_prompt":
				if at, found := findNull(x); found {
					return key + ": " + at, true
				}
			} // enable_thinking and reasoning_content may be null, and nobody reads the rest
		}
	}
	return "", false
}
