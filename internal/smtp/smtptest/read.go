package smtptest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// A Reading is a mail as a reader's program takes it apart.
type Reading struct {
	Header  mail.Header
	Subject string // decoded
	// Text and HTML are the first of their kind that are no files, decoded.
	Text, HTML string
	Parts      []Part // the files
	// Shape is the tree of media types: "multipart/mixed(multipart/alternative(text/plain text/html) text/plain)".
	Shape string
}

// A Part is a file in a mail.
type Part struct {
	Name, Type string
	Data       []byte
}

// Read takes the mail's data apart.
func (m Mail) Read() (*Reading, error) { return Read(m.Data) }

// Read takes a mail apart.
func Read(data []byte) (*Reading, error) {
	message, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r := &Reading{Header: message.Header}
	if r.Subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		return nil, err
	}
	r.Shape, err = r.part(message.Header, message.Body, 0)
	return r, err
}

// header is what parts and mails have in common.
type header interface{ Get(key string) string }

// part reads one part and those within, and returns its shape.
func (r *Reading) part(h header, body io.Reader, depth int) (string, error) {
	if depth > 8 {
		return "", fmt.Errorf("parts within parts within parts")
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return "", fmt.Errorf("content type %q: %w", h.Get("Content-Type"), err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		var shapes []string
		for parts := multipart.NewReader(body, params["boundary"]); ; {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				return kind + "(" + strings.Join(shapes, " ") + ")", nil
			}
			if err != nil {
				return "", err
			}
			shape, err := r.part(p.Header, p, depth+1)
			if err != nil {
				return "", err
			}
			shapes = append(shapes, shape)
		}
	}
	switch strings.ToLower(h.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}
	disposition, file, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	if err != nil && h.Get("Content-Disposition") != "" {
		return "", err
	}
	switch {
	case disposition == "attachment":
		r.Parts = append(r.Parts, Part{file["filename"], h.Get("Content-Type"), data})
	case kind == "text/plain" && r.Text == "":
		r.Text = strings.ReplaceAll(string(data), "\r\n", "\n")
	case kind == "text/html" && r.HTML == "":
		r.HTML = strings.ReplaceAll(string(data), "\r\n", "\n")
	}
	return kind, nil
}
