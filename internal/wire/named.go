package wire

import "strconv"

// Named returns the IDs that an answer of an unknown shape names, each with its
// state, or "" where the answer has none. An ID is a string or a number in an
// array, or the "id" of an object. What is under "error", "errors" or "failed" is
// left out.
func Named(answer any) map[string]string {
	named := map[string]string{}
	collectNamed(answer, named)
	return named
}

func collectNamed(answer any, named map[string]string) {
	switch value := answer.(type) {
	case []any:
		for _, item := range value {
			if id := anyID(item); id != "" {
				named[id] = ""
				continue
			}
			collectNamed(item, named)
		}
	case map[string]any:
		if id := anyID(value["id"]); id != "" {
			named[id], _ = value["state"].(string)
		}
		for name, item := range value {
			if name != "error" && name != "errors" && name != "failed" {
				collectNamed(item, named)
			}
		}
	}
}

// anyID returns a string, or a number as it is spelled in an ID.
func anyID(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64)
	}
	return ""
}
