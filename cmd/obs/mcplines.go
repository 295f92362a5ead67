package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// maxMCPLine bounds a message; one that is longer is answered and passed over.
const maxMCPLine = 16 << 20

// mcpLines lets through the lines that are JSON-RPC messages. To any other it
// gives the answer that JSON-RPC has for it, and goes on: the SDK would end
// there, and with it the agent's tools. The messages of a batch, which the
// protocol's newer versions do not have, come one by one. It also tells of the
// end only when what was asked before is answered, or was given up.
type mcpLines struct {
	from io.Closer
	in   *bufio.Reader
	to   io.Writer
	left []byte // of what was let through; Read's own

	mu      sync.Mutex
	open    map[jsonrpc.ID]bool // asked and not answered
	quiet   sync.Cond           // open is empty, or closed
	closed  bool
	writing sync.Mutex
}

func newMCPLines(in io.ReadCloser, out io.Writer) *mcpLines {
	m := &mcpLines{from: in, in: bufio.NewReader(in), to: out, open: map[jsonrpc.ID]bool{}}
	m.quiet.L = &m.mu
	return m
}

// Close is called when the SDK is done, or is told to be: as reader and as
// writer.
func (m *mcpLines) Close() error {
	m.mu.Lock()
	was := m.closed
	m.closed = true
	m.quiet.Broadcast()
	m.mu.Unlock()
	if was {
		return nil
	}
	return m.from.Close()
}

// Write takes one message from the SDK.
func (m *mcpLines) Write(p []byte) (int, error) {
	m.writing.Lock()
	n, err := m.to.Write(p)
	m.writing.Unlock()
	if msg, decErr := jsonrpc.DecodeMessage(p); decErr == nil {
		if answer, ok := msg.(*jsonrpc.Response); ok {
			m.mu.Lock()
			delete(m.open, answer.ID)
			m.quiet.Broadcast()
			m.mu.Unlock()
		}
	}
	return n, err
}

// settled waits until all is answered.
func (m *mcpLines) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.open) > 0 && !m.closed {
		m.quiet.Wait()
	}
}

func (m *mcpLines) Read(p []byte) (int, error) {
	for len(m.left) == 0 {
		line, err := m.line()
		if errors.Is(err, errLongLine) {
			err = m.answer(jsonrpc.CodeInvalidRequest, nil, err)
		} else if line = bytes.TrimSpace(line); len(line) > 0 {
			if told := m.take(line); told != nil {
				return 0, told
			}
		}
		if err != nil && len(m.left) == 0 {
			m.settled()
			return 0, err
		}
	}
	n := copy(p, m.left)
	m.left = m.left[n:]
	return n, nil
}

var errLongLine = fmt.Errorf("the line is longer than %d bytes", maxMCPLine)

// line is the next one; what ends without a newline is one, too.
func (m *mcpLines) line() (line []byte, err error) {
	long := false
	for {
		part, err := m.in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxMCPLine; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case long && err == nil:
			return nil, errLongLine
		}
		return line, err
	}
}

// take lets a line through, or answers it. Its error is the writer's.
func (m *mcpLines) take(line []byte) error {
	if !json.Valid(line) {
		return m.answer(jsonrpc.CodeParseError, nil, errors.New("the line is not JSON"))
	}
	all := []json.RawMessage{line}
	if line[0] == '[' {
		if err := json.Unmarshal(line, &all); err != nil {
			return m.answer(jsonrpc.CodeParseError, nil, err)
		}
		if len(all) == 0 {
			return m.answer(jsonrpc.CodeInvalidRequest, nil, errors.New("the batch is empty"))
		}
	}
	for _, one := range all {
		msg, err := jsonrpc.DecodeMessage(one)
		if err != nil {
			var named struct {
				ID json.RawMessage `json:"id"`
			}
			_ = json.Unmarshal(one, &named) // it may be no object
			if err := m.answer(jsonrpc.CodeInvalidRequest, named.ID, err); err != nil {
				return err
			}
			continue
		}
		if asked, ok := msg.(*jsonrpc.Request); ok && asked.IsCall() {
			m.mu.Lock()
			m.open[asked.ID] = true
			m.mu.Unlock()
		}
		m.left = append(append(m.left, bytes.ReplaceAll(one, []byte("\n"), []byte(" "))...), '\n')
	}
	return nil
}

// answer says what is wrong with a line.
func (m *mcpLines) answer(code int, id json.RawMessage, why error) error {
	if len(id) > 0 && (id[0] == '{' || id[0] == '[' || id[0] == 't' || id[0] == 'f') {
		id = nil // no id of a message
	}
	line, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": why.Error()},
	})
	if err != nil {
		return err
	}
	_, err = m.Write(append(line, '\n'))
	return err
}
