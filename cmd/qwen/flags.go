package main

import (
	"flag"
	"fmt"
	"math"
	"strconv"
)

// A flag out of its range is wrong usage, which is said before a model of gigabytes is
// loaded: these flags look at their values while the arguments are read.

// most is the upper end of a range that has none.
const most = math.MaxInt

// maxThreads is more than any machine has that this runs on; Go's scheduler takes
// memory and time for each.
const maxThreads = 1024

// intFlag defines a flag for a whole number from low to high.
func intFlag(f *flag.FlagSet, name string, value, low, high int, usage string) *int {
	f.Func(name, usage, func(s string) error {
		x, err := strconv.Atoi(s)
		if err != nil || x < low || x > high {
			return fmt.Errorf("expected a whole number, %s", between(float64(low), float64(high)))
		}
		value = x
		return nil
	})
	return &value
}

// floatFlag defines a flag for a number from 0 to high.
func floatFlag(f *flag.FlagSet, name string, high float64, usage string) *float64 {
	var value float64
	f.Func(name, usage, func(s string) error {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || !(x >= 0 && x <= high) { // NaN is not
			return fmt.Errorf("expected a number, %s", between(0, high))
		}
		value = x
		return nil
	})
	return &value
}

func between(low, high float64) string {
	if high >= most {
		return fmt.Sprintf("%v or more", low)
	}
	return fmt.Sprintf("%v to %s", low, strconv.FormatFloat(high, 'f', -1, 64))
}

func threadsFlag(f *flag.FlagSet) *int {
	return intFlag(f, "threads", 0, 0, maxThreads, "use `N` threads (default: all cores)")
}

// textFlag defines a flag for a text that is not empty.
func textFlag(f *flag.FlagSet, name, expected, usage string) *string {
	var value string
	f.Func(name, usage, func(s string) error {
		if s == "" {
			return fmt.Errorf("expected %s", expected)
		}
		value = s
		return nil
	})
	return &value
}

// idsFlag defines -ids; without it the list is nil.
func idsFlag(f *flag.FlagSet) *[]int {
	var ids []int
	f.Func("ids", "token `ids` instead of a prompt, as 1,2,3", func(s string) (err error) {
		if ids, err = parseIDs(s); err == nil && len(ids) == 0 {
			err = fmt.Errorf("found none, expected token ids")
		}
		return err
	})
	return &ids
}
