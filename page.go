package qwen

import (
	"fmt"
	"strings"
)

// String is the report as text.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "verdict  %s\n", r.Verdict)
	if r.First != nil {
		fmt.Fprintf(&b, "first    %s\ncause    %s\n", *r.First, *r.Cause)
	}
	fmt.Fprintf(&b, "detail   %s\n", r.Detail)
	if r.Value != nil {
		fmt.Fprintf(&b, "value    %g\n", float64(*r.Value))
	}
	for _, t := range r.Tensors {
		if t.Status != "missing" {
			fmt.Fprintf(&b, "%-45s %-9s %.2e own %.2e excess %.2g bias %.2f\n", t.Name, t.Status, float64(t.MaxAbs), float64(t.OwnMaxAbs), float64(t.OwnExcess), float64(t.Bias))
		}
	}
	return b.String()
}

func (r *Report) HTML(title string) string { return "" }
