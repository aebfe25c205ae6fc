package wire

import (
	"bytes"
	"io"
)

// Attachment is bytes that travel beside the JSON of a message: a picture, a file.
//
// One that was received shares the memory of its message. One that is sent must not be changed until its
// call has ended.
type Attachment struct {
	Data      []byte
	MediaType string // IANA media type; empty: application/octet-stream
	Name      string // file name without directories; never to be trusted as a path
}

// Reader returns a reader of the bytes.
func (a *Attachment) Reader() *bytes.Reader { return bytes.NewReader(a.Data) }

// ReadAttachment reads everything from a reader into an attachment, up to a limit.
func ReadAttachment(from io.Reader, mediaType string, limitBytes int64) (*Attachment, error) {
	data, err := io.ReadAll(io.LimitReader(from, limitBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limitBytes {
		return nil, Errorf(ResourceExhausted, "more than %d bytes for an attachment", limitBytes)
	}
	return &Attachment{Data: data, MediaType: mediaType}, nil
}

// Placeholder is the one member of the object that stands for an attachment.
const Placeholder = "$attachment"

// SplitBody returns the attachments in a body whose length has been checked.
func SplitBody(headers []AttachmentHeader, body []byte) []*Attachment {
	if len(headers) == 0 {
		return nil
	}
	attachments := make([]*Attachment, len(headers))
	for i, header := range headers {
		attachments[i] = &Attachment{
			Data: body[:header.Bytes:header.Bytes], MediaType: header.MediaType, Name: header.Name,
		}
		body = body[header.Bytes:]
	}
	return attachments
}

// JoinBody returns the headers and the bytes of attachments.
func JoinBody(attachments []*Attachment) (headers []AttachmentHeader, body [][]byte, err error) {
	for _, attachment := range attachments {
		if int64(len(attachment.Data)) > MaxBytes {
			return nil, nil, bodyTooLarge(int64(len(attachment.Data)), MaxBytes)
		}
		headers = append(headers, AttachmentHeader{uint32(len(attachment.Data)), attachment.MediaType, attachment.Name})
		body = append(body, attachment.Data)
	}
	return headers, body, nil
}
