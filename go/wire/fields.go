package wire

import (
	"errors"
	"fmt"

	"smol.local/smol/internal/jsonscan"
)

func readCount(to *uint64, value []byte) error {
	number, err := jsonscan.Uint(value)
	if err == nil && number > MaxID {
		err = fmt.Errorf("%d is over 2^53 - 1", number)
	}
	*to = number
	return err
}

func readUint32(to *uint32, value []byte, most uint64) error {
	number, err := jsonscan.Uint(value)
	if err == nil && number > most {
		err = fmt.Errorf("%d is over %d", number, most)
	}
	*to = uint32(number)
	return err
}

func readText(to *string, value []byte) (err error) {
	*to, err = jsonscan.String(value)
	return err
}

func readBool(to *bool, value []byte) (err error) {
	*to, err = jsonscan.Bool(value)
	return err
}

func readObject(to *Raw, value []byte) error {
	if value[0] != '{' {
		return fmt.Errorf("expected object, got %s", jsonscan.Kind(value))
	}
	*to = value
	return checkNumbers(value)
}

// checkNumbers refuses numbers that no double can hold, in objects that are read as a whole.
func checkNumbers(value []byte) error {
	switch jsonscan.Kind(value) {
	case "object":
		return jsonscan.Object(value, func(_, value []byte) error { return checkNumbers(value) })
	case "array":
		return jsonscan.Array(value, checkNumbers)
	case "number":
		_, err := jsonscan.Float(value)
		return err
	}
	return nil
}

func readObjects[T any](to *[]T, value []byte, read func(to *T, value []byte) error) error {
	*to = nil
	return jsonscan.Array(value, func(value []byte) error {
		var item T
		err := read(&item, value)
		*to = append(*to, item)
		return err
	})
}

func readAttachment(to *AttachmentHeader, value []byte) error {
	sized := false
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "bytes":
			sized = true
			return readUint32(&to.Bytes, value, MaxBytes)
		case "media_type":
			return readText(&to.MediaType, value)
		case "name":
			if to.Name = ""; jsonscan.IsNull(value) {
				return nil
			}
			return readText(&to.Name, value)
		}
		return nil
	})
	if err == nil && !sized {
		err = errors.New("an attachment without bytes")
	}
	return err
}

func readLimits(to *Limits, value []byte) error {
	*to = DefaultLimits
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "header_bytes":
			return readUint32(&to.HeaderBytes, value, MaxBytes)
		case "body_bytes":
			return readUint32(&to.BodyBytes, value, MaxBytes)
		}
		return nil
	})
	if err == nil {
		err = to.check()
	}
	return err
}

func readUnit(to *UnitDescription, value []byte) error {
	to.Name, to.Version = unset, "0"
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "name":
			return readText(&to.Name, value)
		case "version":
			return readText(&to.Version, value)
		case "summary":
			return readText(&to.Summary, value)
		case "operations":
			return readObjects(&to.Operations, value, readOperation)
		}
		return nil
	})
	return required(err, to.Name, "name")
}

func readOperation(to *OperationDescription, value []byte) error {
	to.Name = unset
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "name":
			return readText(&to.Name, value)
		case "summary":
			return readText(&to.Summary, value)
		case "description":
			return readText(&to.Description, value)
		case "input":
			return readObject(&to.Input, value)
		case "output":
			return readObject(&to.Output, value)
		case "streaming":
			return readBool(&to.Streaming, value)
		case "idempotent":
			return readBool(&to.Idempotent, value)
		case "read_only":
			return readBool(&to.ReadOnly, value)
		case "destructive":
			return readBool(&to.Destructive, value)
		}
		return nil
	})
	return required(err, to.Name, "name")
}

func required(err error, text, name string) error {
	if err == nil && text == unset {
		return fmt.Errorf("no %s", name)
	}
	return err
}

func requireID(id uint64) error {
	if id == 0 {
		return errors.New("no id of 1 or more")
	}
	return nil
}
