// Package jsonscan reads JSON strictly and lazily: it checks a text once and hands out the raw values
// of its members, so that a message is passed on without being taken apart. Names are matched exactly,
// which encoding/json does not do, and text must be UTF-8 without lone surrogates.
package jsonscan

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest.
const MaxDepth = 512

var errTruncated = errors.New("the JSON is cut short")

// Check reports whether data is exactly one JSON value in UTF-8.
func Check(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the text is not UTF-8")
	}
	end, err := skip(data, 0, 0)
	if err != nil {
		return err
	}
	if end = space(data, end); end != len(data) {
		return fmt.Errorf("something follows the JSON at byte %d", end)
	}
	return nil
}

// Object calls each with the name and the raw value of every member of the object in data.
// The name is valid until each returns.
func Object(data []byte, each func(name, value []byte) error) error {
	at := space(data, 0)
	if at >= len(data) || data[at] != '{' {
		return fmt.Errorf("expected object, got %s", Kind(data))
	}
	at = space(data, at+1)
	if at < len(data) && data[at] == '}' {
		return atEnd(data, at+1)
	}
	return objectRest(data, at, each)
}

// objectRest reads the members of an object from the first byte of a name.
func objectRest(data []byte, at int, each func(name, value []byte) error) error {
	for {
		end, err := skipString(data, at)
		if err != nil {
			return err
		}
		name := data[at+1 : end-1]
		if hasEscape(name) {
			text, err := unquote(name)
			if err != nil {
				return err
			}
			name = []byte(text)
		}
		if at = space(data, end); at >= len(data) || data[at] != ':' {
			return unexpected(data, at, "':'")
		}
		begin := space(data, at+1)
		if end, err = skip(data, begin, 1); err != nil {
			return err
		}
		if err := each(name, data[begin:end]); err != nil {
			return err
		}
		next, done, err := following(data, end, '}')
		if done || err != nil {
			return err
		}
		at = next
	}
}

// Array calls each with the raw value of every element of the array in data.
func Array(data []byte, each func(value []byte) error) error {
	at := space(data, 0)
	if at >= len(data) || data[at] != '[' {
		return fmt.Errorf("expected array, got %s", Kind(data))
	}
	at = space(data, at+1)
	if at < len(data) && data[at] == ']' {
		return atEnd(data, at+1)
	}
	for {
		end, err := skip(data, at, 1)
		if err != nil {
			return err
		}
		if err := each(data[at:end]); err != nil {
			return err
		}
		next, done, err := following(data, end, ']')
		if done || err != nil {
			return err
		}
		at = next
	}
}

// Kind names what the value in data is, in the words of JSON Schema.
func Kind(data []byte) string {
	at := space(data, 0)
	if at >= len(data) {
		return "nothing"
	}
	switch c := data[at]; {
	case c == '{':
		return "object"
	case c == '[':
		return "array"
	case c == '"':
		return "string"
	case c == 't' || c == 'f':
		return "boolean"
	case c == 'n':
		return "null"
	case isInteger(data[at:]):
		return "integer"
	default:
		return "number"
	}
}

// IsNull reports whether the raw value is null.
func IsNull(data []byte) bool { return string(data) == "null" }

// String reads a raw string.
func String(data []byte) (string, error) {
	if len(data) < 2 || data[0] != '"' {
		return "", fmt.Errorf("expected string, got %s", Kind(data))
	}
	return unquote(data[1 : len(data)-1])
}

// Bool reads a raw boolean.
func Bool(data []byte) (bool, error) {
	switch string(data) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("expected boolean, got %s", Kind(data))
}

// Int reads a raw integer: no fraction, no exponent.
func Int(data []byte) (int64, error) {
	if !isInteger(data) {
		return 0, fmt.Errorf("expected integer, got %s", Kind(data))
	}
	value, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the integer %.40s is out of range", data)
	}
	return value, nil
}

// Uint reads a raw integer that is not negative.
func Uint(data []byte) (uint64, error) {
	if !isInteger(data) {
		return 0, fmt.Errorf("expected integer, got %s", Kind(data))
	}
	value, err := strconv.ParseUint(string(data), 10, 64)
	if err != nil && string(data) != "-0" {
		return 0, fmt.Errorf("the integer %.40s is out of range", data)
	}
	return value, nil
}

// Float reads a raw number.
func Float(data []byte) (float64, error) {
	if kind := Kind(data); kind != "number" && kind != "integer" {
		return 0, fmt.Errorf("expected number, got %s", kind)
	}
	value, err := strconv.ParseFloat(string(data), 64)
	if err != nil || math.IsInf(value, 0) {
		return 0, fmt.Errorf("the number %.40s is out of range", data)
	}
	return value, nil
}

const hexadecimal = "0123456789abcdef"

// AppendString appends text as a JSON string; what is not UTF-8 becomes U+FFFD.
func AppendString(to []byte, text string) []byte {
	to = append(to, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				to = append(append(to, text[start:i]...), "\ufffd"...)
				start = i + size
			}
			i += size
			continue
		}
		to = append(to, text[start:i]...)
		switch c {
		case '"', '\\':
			to = append(to, '\\', c)
		case '\n':
			to = append(to, '\\', 'n')
		case '\r':
			to = append(to, '\\', 'r')
		case '\t':
			to = append(to, '\\', 't')
		default:
			to = append(to, '\\', 'u', '0', '0', hexadecimal[c>>4], hexadecimal[c&15])
		}
		i++
		start = i
	}
	return append(append(to, text[start:]...), '"')
}

// AppendFloat appends a number; one that is not finite becomes null.
func AppendFloat(to []byte, value float64) []byte {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return append(to, "null"...)
	}
	if size := math.Abs(value); size != 0 && (size < 1e-6 || size >= 1e21) {
		return strconv.AppendFloat(to, value, 'e', -1, 64)
	}
	return strconv.AppendFloat(to, value, 'f', -1, 64)
}

func space(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\n' || data[at] == '\t' || data[at] == '\r') {
		at++
	}
	return at
}

func atEnd(data []byte, at int) error {
	if at = space(data, at); at != len(data) {
		return fmt.Errorf("something follows the JSON at byte %d", at)
	}
	return nil
}

// following reads what stands behind an element: a comma, whose next element begins at next, or the end.
func following(data []byte, at int, end byte) (next int, done bool, err error) {
	at = space(data, at)
	if at < len(data) && data[at] == ',' {
		return space(data, at+1), false, nil
	}
	if at < len(data) && data[at] == end {
		return at + 1, true, atEnd(data, at+1)
	}
	return at, false, unexpected(data, at, "',' or '"+string(end)+"'")
}

func unexpected(data []byte, at int, wanted string) error {
	if at >= len(data) {
		return errTruncated
	}
	return fmt.Errorf("expected %s at byte %d", wanted, at)
}

// skip checks the value at a position, behind any space, and returns where it ends.
func skip(data []byte, at, depth int) (int, error) {
	var closers [MaxDepth]bool // true: an object is open at that depth
	base := depth
	for {
		at = space(data, at)
		if at >= len(data) {
			return at, errTruncated
		}
		var err error
		switch c := data[at]; c {
		case '{', '[':
			if depth >= MaxDepth {
				return at, fmt.Errorf("the JSON nests deeper than %d levels", MaxDepth)
			}
			closers[depth] = c == '{'
			at = space(data, at+1)
			if at < len(data) && data[at] == c+2 { // '{'+2 is '}', '['+2 is ']'.
				at++
				break
			}
			depth++
			if c == '{' {
				if at, err = skipName(data, at); err != nil {
					return at, err
				}
			}
			continue
		case '"':
			at, err = skipString(data, at)
		case 't':
			at, err = skipWord(data, at, "true")
		case 'f':
			at, err = skipWord(data, at, "false")
		case 'n':
			at, err = skipWord(data, at, "null")
		default:
			at, err = skipNumber(data, at)
		}
		if err != nil {
			return at, err
		}
		// Behind a value: leave what ends here, then go on with the next element.
		for {
			if depth == base {
				return at, nil
			}
			at = space(data, at)
			if at >= len(data) {
				return at, errTruncated
			}
			object := closers[depth-1]
			if data[at] == ',' {
				at = space(data, at+1)
				if object {
					if at, err = skipName(data, at); err != nil {
						return at, err
					}
				}
				break
			}
			if (object && data[at] != '}') || (!object && data[at] != ']') {
				return at, unexpected(data, at, "',' or the end")
			}
			at++
			depth--
		}
	}
}

func skipName(data []byte, at int) (int, error) {
	at, err := skipString(data, at)
	if err != nil {
		return at, err
	}
	if at = space(data, at); at >= len(data) || data[at] != ':' {
		return at, unexpected(data, at, "':'")
	}
	return at + 1, nil
}

func skipWord(data []byte, at int, word string) (int, error) {
	if len(data)-at < len(word) || string(data[at:at+len(word)]) != word {
		return at, unexpected(data, at, "a value")
	}
	return at + len(word), nil
}

func skipNumber(data []byte, at int) (int, error) {
	start := at
	if at < len(data) && data[at] == '-' {
		at++
	}
	first := at
	at = digits(data, at)
	if at == first || (data[first] == '0' && at > first+1) {
		return start, unexpected(data, start, "a value")
	}
	if at < len(data) && data[at] == '.' {
		first = at + 1
		if at = digits(data, first); at == first {
			return at, unexpected(data, at, "a digit")
		}
	}
	if at < len(data) && (data[at] == 'e' || data[at] == 'E') {
		at++
		if at < len(data) && (data[at] == '+' || data[at] == '-') {
			at++
		}
		first = at
		if at = digits(data, first); at == first {
			return at, unexpected(data, at, "a digit")
		}
	}
	return at, nil
}

func digits(data []byte, at int) int {
	for at < len(data) && data[at] >= '0' && data[at] <= '9' {
		at++
	}
	return at
}

func isInteger(data []byte) bool {
	at := 0
	if at < len(data) && data[at] == '-' {
		at++
	}
	end := digits(data, at)
	return end > at && end == len(data)
}

func skipString(data []byte, at int) (int, error) {
	if at >= len(data) || data[at] != '"' {
		return at, unexpected(data, at, "a string")
	}
	for at++; at < len(data); {
		switch c := data[at]; {
		case c == '"':
			return at + 1, nil
		case c == '\\':
			_, size, err := escape(data[at:])
			if err != nil {
				return at, err
			}
			at += size
		case c < 0x20:
			return at, fmt.Errorf("a control character in a string at byte %d", at)
		default:
			at++
		}
	}
	return at, errTruncated
}

func hasEscape(text []byte) bool {
	for _, c := range text {
		if c == '\\' {
			return true
		}
	}
	return false
}

func unquote(text []byte) (string, error) {
	if !hasEscape(text) {
		return string(text), nil
	}
	to := make([]byte, 0, len(text))
	for at := 0; at < len(text); {
		if text[at] != '\\' {
			to = append(to, text[at])
			at++
			continue
		}
		r, size, err := escape(text[at:])
		if err != nil {
			return "", err
		}
		to = utf8.AppendRune(to, r)
		at += size
	}
	return string(to), nil
}

var simpleEscapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads the escape that data begins with, both halves of a surrogate pair included.
func escape(data []byte) (r rune, size int, err error) {
	if len(data) < 2 {
		return 0, 0, errTruncated
	}
	if data[1] != 'u' {
		r, known := simpleEscapes[data[1]]
		if !known {
			return 0, 0, fmt.Errorf("an unknown escape \\%c in a string", data[1])
		}
		return r, 2, nil
	}
	high, err := codeUnit(data)
	if err != nil || !utf16.IsSurrogate(high) {
		return high, 6, err
	}
	low, err := codeUnit(data[6:])
	if err == nil {
		if pair := utf16.DecodeRune(high, low); pair != utf8.RuneError {
			return pair, 12, nil
		}
	}
	return 0, 0, errors.New("half of a surrogate pair in a string")
}

func codeUnit(data []byte) (rune, error) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, errTruncated
	}
	value, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return 0, errors.New("a \\u escape without four hexadecimal digits")
	}
	return rune(value), nil
}
