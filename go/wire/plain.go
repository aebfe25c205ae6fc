package wire

import (
	"fmt"
	"strconv"

	"smol.local/smol/internal/jsonscan"
)

// appendAny encodes what error details are made of: plain JSON types.
func appendAny(to []byte, value any, depth int) ([]byte, error) {
	if depth > 16 {
		return nil, fmt.Errorf("nested too deep")
	}
	switch value := value.(type) {
	case nil:
		return append(to, "null"...), nil
	case bool:
		return strconv.AppendBool(to, value), nil
	case string:
		return jsonscan.AppendString(to, value), nil
	case int:
		return strconv.AppendInt(to, int64(value), 10), nil
	case int64:
		return strconv.AppendInt(to, value, 10), nil
	case uint32:
		return strconv.AppendUint(to, uint64(value), 10), nil
	case uint64:
		return strconv.AppendUint(to, value, 10), nil
	case float64:
		return jsonscan.AppendFloat(to, value), nil
	case []string:
		return appendList(to, value, depth)
	case []int:
		return appendList(to, value, depth)
	case []any:
		return appendList(to, value, depth)
	case map[string]any:
		to = append(to, '{')
		first := true
		for name, item := range value {
			if !first {
				to = append(to, ',')
			}
			first = false
			var err error
			if to, err = appendAny(append(jsonscan.AppendString(to, name), ':'), item, depth+1); err != nil {
				return nil, err
			}
		}
		return append(to, '}'), nil
	}
	return nil, fmt.Errorf("a %T is no plain JSON type", value)
}

func appendList[T any](to []byte, items []T, depth int) ([]byte, error) {
	to = append(to, '[')
	for i, item := range items {
		if i > 0 {
			to = append(to, ',')
		}
		var err error
		if to, err = appendAny(to, item, depth+1); err != nil {
			return nil, err
		}
	}
	return append(to, ']'), nil
}

// decodeAny decodes JSON that has been checked into plain types; integers become int64 where they fit.
func decodeAny(data []byte) any {
	switch jsonscan.Kind(data) {
	case "object":
		members := map[string]any{}
		_ = jsonscan.Object(data, func(name, value []byte) error {
			members[string(name)] = decodeAny(value)
			return nil
		})
		return members
	case "array":
		items := []any{}
		_ = jsonscan.Array(data, func(value []byte) error {
			items = append(items, decodeAny(value))
			return nil
		})
		return items
	case "string":
		text, _ := jsonscan.String(data)
		return text
	case "boolean":
		return data[0] == 't'
	case "integer":
		if value, err := jsonscan.Int(data); err == nil {
			return value
		}
		fallthrough
	case "number":
		value, _ := strconv.ParseFloat(string(data), 64)
		return value
	}
	return nil
}

// Plain decodes JSON that the wire has carried, which is known to be well-formed, into nil, bool, int64,
// float64, string, []any and map[string]any.
func Plain(data []byte) any { return decodeAny(data) }
